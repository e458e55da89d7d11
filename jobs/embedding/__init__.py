"""The embed job on Spark: inputs, micro-batches, appends, upserts and the run's record."""
