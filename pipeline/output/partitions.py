"""Folders of a partitioned output, named as Hive and Spark name them: ``lang=en/day=2026-01-31/``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.errors import DataError

# Spark's own list (ExternalCatalogUtils): these are written as % and two hexadecimal digits.
_ESCAPED = frozenset(map(chr, range(0x01, 0x20))) | set("\x7f\"#%'*/:=?\\{[]^")
_ESCAPE = re.compile("%([0-9A-F]{2})")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# Spark leaves out folders whose names end so: Hadoop's shell copies into them.
_HIDDEN_END = "._COPYING_"
_MOST_BYTES = 255


def split_by_partition(
    batch: pa.RecordBatch, names: Sequence[str], values: Sequence[pa.Array]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Split rows by the folders that they belong to.

    Parameters
    ----------
    batch : pyarrow.RecordBatch of N rows
    names : sequence of str
        Partition columns; none leaves the batch whole.
    values : sequence of pyarrow string arrays of length N
        Their values, as Spark casts them to strings.

    Yields
    ------
    str
        The folder, with a slash at its end; empty for no partition columns.
    pyarrow.RecordBatch
        Its rows, in their order.
    """
    if not names or not batch.num_rows:
        yield "", batch
        return
    codes = np.zeros(batch.num_rows, dtype=np.int64)
    folders = [""]
    for name, column in zip(names, values, strict=True):
        # Spark keeps no empty folder names: an empty value is none.
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        kinds = [folder_name(name, value) for value in encoded.dictionary.to_pylist()]
        codes = codes * len(kinds) + encoded.indices.to_numpy(zero_copy_only=False)
        # Only what occurs, so that many columns don't multiply.
        used, codes = np.unique(codes, return_inverse=True)
        folders = [f"{folders[code // len(kinds)]}{kinds[code % len(kinds)]}/" for code in used]
    if len(folders) == 1:
        yield folders[0], batch
        return
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(folders)))
    for folder, rows in zip(folders, np.split(order, ends[:-1]), strict=True):
        yield folder, batch.take(pa.array(rows))


def folder_name(column: str, value: str | None) -> str:
    """Name the folder of one value.

    Parameters
    ----------
    column : str
    value : str or None

    Returns
    -------
    str

    Raises
    ------
    DataError
        If no folder can have the name, or readers would not look into it.

    Examples
    --------
    >>> folder_name("day of week", "Mon/Tue"), folder_name("day", None)
    ('day of week=Mon%2FTue', 'day=__HIVE_DEFAULT_PARTITION__')
    """
    if value is not None and ("\0" in value or value.endswith(_HIDDEN_END)):
        raise DataError(
            f"a value of partition column {column!r} can't name a folder",
            got="a null character" if "\0" in value else f"{_HIDDEN_END} at its end",
            expected="values whose folders readers look into",
            remedy="clean the column, or partition by another one",
        )
    return f"{_escape(column)}={_NO_VALUE if value is None else _escape(value)}"


def refuse_long_folders(name: str) -> None:
    """Say which partition column has a value that is too long to name a folder, if one has.

    Parameters
    ----------
    name : str
        Name of a file below the output that can't be created.

    Raises
    ------
    DataError
    """
    for folder in name.split("/")[:-1]:
        if (size := len(folder.encode())) > _MOST_BYTES:
            column = _unescape(folder.partition("=")[0])
            raise DataError(
                f"a value of partition column {column!r} is too long to name a folder",
                got=f"{size} bytes",
                expected=f"at most {_MOST_BYTES} on this file system",
                remedy="partition by a shorter column",
            )


def partition_values(name: str, columns: Sequence[str]) -> dict[str, str | None]:
    """Read the values of partition columns back from a file's name.

    Parameters
    ----------
    name : str
        Name of a file below the output, folders included.
    columns : sequence of str
        Partition columns, outermost first.

    Returns
    -------
    dict of str to (str or None)

    Examples
    --------
    >>> partition_values("day of week=Mon%2FTue/part-0.parquet", ["day of week"])
    {'day of week': 'Mon/Tue'}
    """
    folders = name.split("/")[: len(columns)]
    values = [
        folder.removeprefix(f"{_escape(column)}=") for column, folder in zip(columns, folders, strict=True)
    ]
    return {
        column: None if value == _NO_VALUE else _unescape(value)
        for column, value in zip(columns, values, strict=True)
    }


def _escape(text: str) -> str:
    return "".join(f"%{ord(character):02X}" if character in _ESCAPED else character for character in text)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
