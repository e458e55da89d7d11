"""lakevec: batch text embeddings over a data lake, on plain CPUs.

The names in `__all__` are its public interface. Each is imported at its first use, so importing this package
loads no Spark, torch or NumPy. `lakevec.pipeline` (without Spark), `lakevec.udfs` (the bridge to Spark) and
`lakevec.jobs` (commands) are private.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Some archive tools turn links into text files: then the parts lie beside this folder.
if ".zip" not in __file__ and not (Path(__file__).parent / "pipeline").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.recipe import DistillResult, distill
    from lakevec.pipeline.encoding.encoder import Encoded, Encoder
    from lakevec.pipeline.encoding.options import EncodeOptions
    from lakevec.pipeline.errors import LakevecError
    from lakevec.pipeline.model.artifact import Artifact, load
    from lakevec.pipeline.model.publishing import publish
    from lakevec.pipeline.model.table import StaticTable
    from lakevec.udfs.column_functions import make_embed_udf, register
    from lakevec.udfs.distribution import ship_code
