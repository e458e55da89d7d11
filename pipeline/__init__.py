"""lakevec without Spark: tables, artifacts, encoding, distillation, output files."""

__version__ = "0.1.0"
