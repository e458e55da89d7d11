"""Other people's static models: recognized by what lies there, read without running anything of theirs."""

from pipeline.model.formats.declared import ForeignModel
from pipeline.model.formats.foreign import read_foreign

__all__ = ["ForeignModel", "read_foreign"]
