"""Other people's static models: recognized by what lies there, read without running anything of theirs."""

from lakevec.pipeline.model.formats.detection import read_foreign
from lakevec.pipeline.model.formats.foreign_model import ForeignModel

__all__ = ["ForeignModel", "read_foreign"]
