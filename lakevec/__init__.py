"""lakevec: batch text embeddings over a data lake, on plain CPUs.

The names in `__all__` are its interface. Each is imported at its first use, so importing this package loads
no Spark, torch or NumPy. `lakevec.spark` and `lakevec.beam` are public, too. All other modules are private:
`lakevec.pipeline` (without Spark), `lakevec.udfs` (the bridge to Spark) and `lakevec.jobs` (commands).
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Some archive tools turn links into text files: then the parts lie beside this folder.
if ".zip" not in __file__ and not (Path(__file__).parent / "pipeline").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))

_NAMES = {
    "pipeline.distillation.options": "DistillOptions",
    "pipeline.distillation.recipe": "DistillResult distill",
    "pipeline.encoding.chunking": "Chunker Chunks",
    "pipeline.encoding.encoder": "Encoded Encoder",
    "pipeline.encoding.options": "ChunkOptions EncodeOptions",
    "pipeline.errors": "BusyError CommitError DamagedOutputError DataError FidelityError InputError "
    "LakevecError ModelError OutputError SettingsError SetupError TeacherError UnreadableFileError "
    "UsageError",
    "pipeline.heads.head": "Head HeadKind Predictions",
    "pipeline.heads.head_folder": "load_head publish_head",
    "pipeline.heads.options": "HeadOptions",
    "pipeline.heads.training": "train_head",
    "pipeline.model.artifact": "Artifact load",
    "pipeline.model.publishing": "publish",
    "pipeline.model.table": "StaticTable",
    "udfs.column_functions": "make_chunk_udf make_embed_udf register",
    "udfs.distribution": "ship_code",
}
_MODULE_OF = {name: f"lakevec.{module}" for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *sorted(_MODULE_OF)]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from lakevec.pipeline.distillation.options import DistillOptions as DistillOptions
    from lakevec.pipeline.distillation.recipe import DistillResult as DistillResult
    from lakevec.pipeline.distillation.recipe import distill as distill
    from lakevec.pipeline.encoding.chunking import Chunker as Chunker
    from lakevec.pipeline.encoding.chunking import Chunks as Chunks
    from lakevec.pipeline.encoding.encoder import Encoded as Encoded
    from lakevec.pipeline.encoding.encoder import Encoder as Encoder
    from lakevec.pipeline.encoding.options import ChunkOptions as ChunkOptions
    from lakevec.pipeline.encoding.options import EncodeOptions as EncodeOptions
    from lakevec.pipeline.errors import BusyError as BusyError
    from lakevec.pipeline.errors import CommitError as CommitError
    from lakevec.pipeline.errors import DamagedOutputError as DamagedOutputError
    from lakevec.pipeline.errors import DataError as DataError
    from lakevec.pipeline.errors import FidelityError as FidelityError
    from lakevec.pipeline.errors import InputError as InputError
    from lakevec.pipeline.errors import LakevecError as LakevecError
    from lakevec.pipeline.errors import ModelError as ModelError
    from lakevec.pipeline.errors import OutputError as OutputError
    from lakevec.pipeline.errors import SettingsError as SettingsError
    from lakevec.pipeline.errors import SetupError as SetupError
    from lakevec.pipeline.errors import TeacherError as TeacherError
    from lakevec.pipeline.errors import UnreadableFileError as UnreadableFileError
    from lakevec.pipeline.errors import UsageError as UsageError
    from lakevec.pipeline.heads.head import Head as Head
    from lakevec.pipeline.heads.head import HeadKind as HeadKind
    from lakevec.pipeline.heads.head import Predictions as Predictions
    from lakevec.pipeline.heads.head_folder import load_head as load_head
    from lakevec.pipeline.heads.head_folder import publish_head as publish_head
    from lakevec.pipeline.heads.options import HeadOptions as HeadOptions
    from lakevec.pipeline.heads.training import train_head as train_head
    from lakevec.pipeline.model.artifact import Artifact as Artifact
    from lakevec.pipeline.model.artifact import load as load
    from lakevec.pipeline.model.publishing import publish as publish
    from lakevec.pipeline.model.table import StaticTable as StaticTable
    from lakevec.udfs.column_functions import make_chunk_udf as make_chunk_udf
    from lakevec.udfs.column_functions import make_embed_udf as make_embed_udf
    from lakevec.udfs.column_functions import register as register
    from lakevec.udfs.distribution import ship_code as ship_code
else:  # hidden from type checkers, for which any misspelled name would exist

    def __getattr__(name: str) -> object:
        """Import a public name at its first use."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
        return value


def __dir__() -> list[str]:
    """List the public names, too, before their first use."""
    return sorted({*globals(), *__all__})
