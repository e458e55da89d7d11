"""Damaged footers of Parquet files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from lakevec.pipeline.output.thrift_compact import Struct, decode, encode

# Fields of a footer, and of a column's chunk.
ROWS, ROW_GROUPS = 3, 4
DATA_PAGE, DICTIONARY_PAGE, SIZES = 9, 11, 16


def change_footer(file: Path, change: Callable[[Struct], None]) -> None:
    """Change a file's footer in place."""
    content = file.read_bytes()
    [size] = struct.unpack("<I", content[-8:-4])
    footer = decode(content[-8 - size : -8])
    change(footer)
    changed = encode(footer)
    file.write_bytes(content[: -8 - size] + changed + struct.pack("<I", len(changed)) + b"PAR1")
