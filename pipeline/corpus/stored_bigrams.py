"""Bigrams that ``lakevec count --bigrams`` stored, as ids of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from lakevec.pipeline.corpus.bigrams import Bigrams, take_telling, unpack_pairs
from lakevec.pipeline.corpus.counts_folder import BIGRAMS, part_of
from lakevec.pipeline.errors import InputError, rephrase
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location


def has_bigrams(uri: str) -> bool:
    """Return whether counts hold bigrams, as `read_bigrams` reads them."""
    place = part_of(uri, BIGRAMS)
    with rephrase(InputError, f"counts {uri!r} can't be read", on=(OSError, pa.ArrowException)):
        if _is_missing(place):
            return False
        return "first" in pads.dataset(place.path, filesystem=place.filesystem, format="parquet").schema.names


def _is_missing(place: Location) -> bool:
    """Return whether this is the place of bigrams in a folder of counts that has none."""
    return place.name == BIGRAMS and not place.exists()


def read_bigrams(uri: str, tokens: Sequence[str], most: int) -> Bigrams:
    """Read the bigrams of a lake as pairs of a tokenizer's ids.

    Parameters
    ----------
    uri : str
        Folder of ``lakevec count --bigrams``, or Parquet with the columns ``first``, ``second`` (string) and
        ``count`` (integer).
    tokens : sequence of str
        The tokenizer's tokens by id. Bigrams with other tokens are left out.
    most : int
        Maximum number of bigrams B; see `take_telling`.

    Raises
    ------
    InputError
        If the folder has no bigrams, they can't be read, or none has tokens of the tokenizer.
    """
    shown = f"counts {redact(uri)!r}"
    place = part_of(uri, BIGRAMS)
    if _is_missing(place):
        remedy = "count again with --bigrams, into another --output"
        raise InputError(f"{shown} have no bigrams", got="counts without --bigrams", remedy=remedy)
    unreadable = (OSError, pa.ArrowException, KeyError)
    expected = "Parquet with the columns first, second (string) and count (integer)"
    with rephrase(InputError, f"bigrams {redact(uri)!r} can't be read", on=unreadable, expected=expected):
        columns = ["first", "second", "count"]
        table = pq.read_table(place.path, filesystem=place.filesystem, columns=columns)
        if not pa.types.is_integer(table["count"].type):
            raise KeyError(f"count is {table['count'].type}")
        known = pa.array(tokens, pa.large_string())
        table = table.filter(pc.field("count") > 0)
        ids = [pc.index_in(pc.cast(table[name], known.type), value_set=known) for name in columns[:2]]
    is_known = pc.and_(ids[0].is_valid(), ids[1].is_valid())
    first, second = (column.filter(is_known).to_numpy() for column in ids)
    if len(table) and not len(first):
        got = f"{len(table):,} bigrams, and none of {len(tokens):,} tokens"
        remedy = "count with --bigrams by this model's tokenizer"
        raise InputError(f"{shown} have no bigrams of the vocabulary", got=got, remedy=remedy)
    packed, rows = np.unique(first.astype(np.int64) << 32 | second, return_inverse=True)
    counts = np.zeros(len(packed), dtype=np.int64)
    np.add.at(counts, rows, table["count"].filter(is_known).to_numpy())
    return take_telling(Bigrams(unpack_pairs(packed), counts), most)
