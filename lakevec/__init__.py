"""lakevec: batch text embeddings over a data lake, on plain CPUs.

Its parts are `lakevec.pipeline` (without Spark), `lakevec.udfs` (the bridge to Spark) and `lakevec.jobs`
(commands). Importing this package imports none of them.
"""

from pathlib import Path

__version__ = "0.1.0"

# Some archive tools turn links into text files: then the parts lie beside this folder.
if ".zip" not in __file__ and not (Path(__file__).parent / "pipeline").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))
