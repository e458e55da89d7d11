"""The bridge to Spark: files on every node, encoders in workers, column functions and tasks."""

from lakevec.udfs.shipped_code import prefer_unpacked_code

prefer_unpacked_code()  # before anything imports a kernel

from lakevec.udfs.column_functions import make_embed_udf, register  # noqa: E402

__all__ = ["make_embed_udf", "register"]
