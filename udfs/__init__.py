"""The part of lakevec that runs in Spark's workers: column functions, tasks, and files on each node."""

from lakevec.udfs.shipped_code import prefer_unpacked_code

prefer_unpacked_code()  # before any import of a kernel
