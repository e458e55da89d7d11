"""What a run leaves behind: Parquet files, their commit, the manifest."""
