"""The output of a run: Parquet or Delta files, the commit log, the lease and staging."""
