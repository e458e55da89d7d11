"""A sample and the teacher's vectors of it, in numbered Parquet files (shards) that later runs reuse.

A shard is complete or absent, so the next run after a crash computes only the missing shards. Each pair of
sample and teacher has its own folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.errors import DataError, InputError, rephrase
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.storage import Location, locate


@dataclass(frozen=True)
class TeacherShards:
    """The shards of one sample and teacher.

    Parameters
    ----------
    folder : Location
    number : int
        Number of shards.
    """

    folder: Location
    number: int

    def missing(self, kind: str = "vectors") -> list[int]:
        """Return the shards without vectors, or without texts."""
        names = {info.base_name for info in (self.folder / kind).list()}
        return [shard for shard in range(self.number) if self._file(kind, shard).name not in names]

    def write_texts(self, texts: Sequence[str], *, shard_rows: int) -> None:
        """Write the missing shards of texts."""
        for shard in self.missing("texts"):
            part = texts[shard * shard_rows : (shard + 1) * shard_rows]
            _write(self._file("texts", shard), pa.table({"text": pa.array(part, pa.string())}))

    def read_texts(self, shard: int) -> list[str]:
        """Return the texts of a shard."""
        return list(_read(self._file("texts", shard))["text"].to_pylist())

    def write_vectors(self, shard: int, vectors: np.ndarray) -> None:
        """Write the teacher's vectors of a shard, float32 of shape (N, H), atomically."""
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        _write(self._file("vectors", shard), pa.table({"vector": column}))

    def read_vectors(self) -> np.ndarray:
        """Return all vectors in the order of the texts: float32 of shape (N, H).

        Raises
        ------
        DataError
            If a shard is missing or damaged, or has non-finite values.
        """
        shards = pa.concat_tables(_read(self._file("vectors", shard)) for shard in range(self.number))
        column = shards["vector"].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False)
        vectors = np.asarray(values, dtype=np.float32).reshape(-1, column.type.list_size)
        if not np.isfinite(vectors).all():
            raise DataError(
                f"the teacher's vectors in {self.folder.path} hold NaN or infinity",
                remedy="delete that folder and run again; if the error returns, choose another --precision",
            )
        return vectors

    def _file(self, kind: str, shard: int) -> Location:
        return self.folder / kind / f"{shard:06d}.parquet"


def open_shards(uri: str, texts: Sequence[str], *, teacher: str, shard_rows: int) -> TeacherShards:
    """Return the shards of a sample and a teacher.

    Parameters
    ----------
    uri : str
        Folder or URI for the shards of any number of samples and teachers.
    texts : sequence of str
        The sample.
    teacher : str
        Fingerprint of the teacher.
    shard_rows : int
        Texts per shard.
    """
    key = hashlib.sha256(f"1 {teacher} {texts_sha256(texts)} {shard_rows}".encode()).hexdigest()[:32]
    return TeacherShards(locate(uri, error=InputError) / key, -(-len(texts) // shard_rows))


def _write(file: Location, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    file.write_atomic(sink.getvalue().to_pybytes())


def _read(file: Location) -> pa.Table:
    what, unreadable = f"shard {file.path} can't be read", (OSError, pa.ArrowException)
    with rephrase(DataError, what, on=unreadable, remedy="delete it and run again"):
        if not file.exists():
            raise DataError(
                f"shard {file.path} is missing",
                expected="a place that driver and executors reach by the same path",
                remedy="set --vectors to such a place",
            )
        return pq.read_table(pa.BufferReader(file.read_bytes()))
