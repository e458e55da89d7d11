"""Folders of a partitioned output, named as Hive and Spark name them: ``lang=en/day=2026-01-31/``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.errors import DataError

# Characters that Spark writes as % and two hexadecimal digits (ExternalCatalogUtils).
_ESCAPES = {code: f"%{code:02X}" for code in (*range(0x01, 0x20), *b"\x7f\"#%'*/:=?\\{[]^")}
# Spark escapes ASCII only. Others, such as delta-rs, escape each byte of a character's UTF-8.
_ESCAPED = re.compile("(?:%[0-9A-Fa-f]{2})+")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# Spark skips folders with this suffix, since Hadoop's shell copies into them.
_HIDDEN_SUFFIX = "._COPYING_"
_MAX_BYTES = 255


def split_by_partition(
    batch: pa.RecordBatch, names: Sequence[str], values: Sequence[pa.Array], *, is_exact: bool = False
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Split rows by partition folder.

    Parameters
    ----------
    batch : pyarrow.RecordBatch of N rows
    names : sequence of str
        Partition columns. Without any, the batch stays whole.
    values : sequence of pyarrow string arrays of length N
        Their values, as Spark casts them to strings.
    is_exact : bool, default=False
        Whether different values have different folders. Otherwise Hive's rules hold, by which an empty string
        is null.

    Yields
    ------
    str
        The folder with a final slash; empty without partition columns.
    pyarrow.RecordBatch
        The folder's rows in input order.
    """
    if not names or not batch.num_rows:
        yield "", batch
        return
    parts = []
    for name, column in zip(names, values, strict=True):
        if not is_exact:
            # Spark treats an empty string as null, since a folder needs a name.
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        folders = [folder_name(name, value, is_exact=is_exact) for value in encoded.dictionary.to_pylist()]
        levels = pa.array([f"{folder}/" for folder in folders])
        parts.append(levels.take(encoded.indices))
    encoded = pc.binary_join_element_wise(*parts, "").dictionary_encode()
    folders, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    if len(folders) == 1:
        yield folders[0], batch
        return
    ends = np.cumsum(np.bincount(codes))
    for folder, rows in zip(folders, np.split(np.argsort(codes, kind="stable"), ends[:-1]), strict=True):
        yield folder, batch.take(pa.array(rows))


def folder_name(column: str, value: str | None, *, is_exact: bool = False) -> str:
    """Return the folder name of a partition value; with `is_exact`, of no other value.

    Raises
    ------
    DataError
        If no folder can have that name, or if readers would skip it.

    Examples
    --------
    >>> folder_name("day of week", "Mon/Tue"), folder_name("day", None)
    ('day of week=Mon%2FTue', 'day=__HIVE_DEFAULT_PARTITION__')
    >>> folder_name("day", "__HIVE_DEFAULT_PARTITION__", is_exact=True)
    'day=%5F_HIVE_DEFAULT_PARTITION__'
    """
    if value is not None and ("\0" in value or value.endswith(_HIDDEN_SUFFIX)):
        raise DataError(
            f"a value of partition column {column!r} can't name a folder",
            got="a null character" if "\0" in value else f"{_HIDDEN_SUFFIX} at its end",
            expected="values whose folders readers don't skip",
            remedy="clean the column, or partition by another one",
        )
    if value is None:
        text = _NO_VALUE
    elif is_exact and value == _NO_VALUE:
        text = _NO_VALUE.replace("_", "%5F", 1)
    else:
        text = value.translate(_ESCAPES)
    return f"{column.translate(_ESCAPES)}={text}"


def refuse_long_folders(name: str) -> None:
    """Raise DataError if a partition value in a file's name is too long for a folder name."""
    for folder in name.split("/")[:-1]:
        if (size := len(folder.encode())) > _MAX_BYTES:
            column = _unescape(folder.partition("=")[0])
            raise DataError(
                f"a value of partition column {column!r} is too long to name a folder",
                got=f"{size} bytes",
                expected=f"at most {_MAX_BYTES} on this file system",
                remedy="partition by a shorter column",
            )


def partition_values(name: str, columns: Sequence[str]) -> dict[str, str | None]:
    """Parse the partition values from a file's name.

    Parameters
    ----------
    name : str
        Name of a file below the output, folders included.
    columns : sequence of str
        Partition columns, outermost first.

    Raises
    ------
    ValueError
        If a folder doesn't name its partition column, or holds escapes that are not valid UTF-8.

    Examples
    --------
    >>> partition_values("day of week=Mon%2FTue/part-0.parquet", ["day of week"])
    {'day of week': 'Mon/Tue'}
    """
    folders = name.split("/")[:-1][: len(columns)]
    values: dict[str, str | None] = {}
    for column, folder in zip(columns, folders, strict=True):
        found, equals, value = folder.partition("=")
        if not equals or _unescape(found) != column:
            raise ValueError("a folder must name its partition column")
        values[column] = None if value == _NO_VALUE else _unescape(value)
    return values


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), text)
