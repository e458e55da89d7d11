"""lakevec without Spark: tables, artifacts, encoding, distillation, output files."""
