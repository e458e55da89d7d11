"""An output read back without Spark: its rows and vectors, search, and export."""
