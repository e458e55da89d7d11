"""How many rows a micro-batch has, for its progress: from a few footers of its Parquet files."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.output.commit_log import InputFile
from lakevec.pipeline.storage import is_local_path
from lakevec.udfs.split_reader import local_path

# Footers take milliseconds of the driver, which shares its machine with local tasks.
_MOST_FOOTERS = 16


def estimate_rows(form: str, files: Sequence[InputFile]) -> int | None:
    """Estimate the rows of local Parquet files, exactly if they are few; None for other files.

    Parameters
    ----------
    form : str
        Format of the files.
    files : sequence of InputFile
    """
    if form != "parquet" or not files or not all(is_local_path(file.path) for file in files):
        return None
    # Of every size, so that they stand for the others.
    ordered = sorted(files, key=lambda file: file.bytes)
    sampled = ordered[:: -(-len(ordered) // _MOST_FOOTERS)]
    try:
        rows = sum(pq.read_metadata(local_path(file.path)).num_rows for file in sampled)
    except (OSError, pa.ArrowException):  # the run will say what is wrong
        return None
    share = sum(file.bytes for file in sampled) / max(sum(file.bytes for file in ordered), 1)
    return round(rows / share) if share else None
