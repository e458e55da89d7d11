"""The bridge to Spark: a table on every node, encoders in workers, column functions, the embedding task."""

from udfs.column_functions import make_embed_udf, register

__all__ = ["make_embed_udf", "register"]
