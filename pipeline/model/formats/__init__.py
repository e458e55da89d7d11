"""Other people's static models: recognized by what lies there, read without running anything of theirs."""

from lakevec.pipeline.model.formats.declared import ForeignModel
from lakevec.pipeline.model.formats.foreign import read_foreign

__all__ = ["ForeignModel", "read_foreign"]
