"""A sample and the teacher's vectors of it, in numbered Parquet files that later runs use again.

A shard exists whole or not at all, so a run that was killed continues with the missing ones. Each sample and
teacher has a folder of its own.
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
        How many there are.
    """

    folder: Location
    number: int

    def missing(self) -> list[int]:
        """Return the shards without vectors."""
        names = {info.base_name for info in (self.folder / "vectors").list()}
        return [shard for shard in range(self.number) if _name(shard) not in names]

    def write_texts(self, texts: Sequence[str], *, shard_rows: int) -> None:
        """Write the parts of the sample that are missing."""
        names = {info.base_name for info in (self.folder / "texts").list()}
        for shard in range(self.number):
            if _name(shard) not in names:
                part = texts[shard * shard_rows : (shard + 1) * shard_rows]
                _write(self._texts(shard), pa.table({"text": pa.array(part, pa.string())}))

    def read_texts(self, shard: int) -> list[str]:
        """Return the texts of a shard."""
        texts: list[str] = _read(self._texts(shard))["text"].to_pylist()
        return texts

    def write_vectors(self, shard: int, vectors: np.ndarray) -> None:
        """Write the teacher's vectors of a shard, float32 of shape (N, H), in one step."""
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        _write(self._vectors(shard), pa.table({"vector": column}))

    def read_vectors(self) -> np.ndarray:
        """Return all vectors in the order of the texts: float32 of shape (N, H).

        Raises
        ------
        DataError
            If a shard is missing or damaged, or holds values that are not finite.
        """
        parts = []
        for shard in range(self.number):
            column = _read(self._vectors(shard))["vector"].combine_chunks()
            width = column.type.list_size
            parts.append(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
        vectors: np.ndarray = np.concatenate(parts).astype(np.float32, copy=False)
        if not np.isfinite(vectors).all():
            raise DataError(
                f"the teacher's vectors in {self.folder.path} hold NaN or infinity",
                remedy="delete that folder and run again; if they come back, choose another --precision",
            )
        return vectors

    def _texts(self, shard: int) -> Location:
        return self.folder / "texts" / _name(shard)

    def _vectors(self, shard: int) -> Location:
        return self.folder / "vectors" / _name(shard)


def open_shards(uri: str, texts: Sequence[str], *, teacher: str, shard_rows: int) -> TeacherShards:
    """Find the place of a sample and its vectors.

    Parameters
    ----------
    uri : str
        Folder or URI for any number of samples and teachers.
    texts : sequence of str
    teacher : str
        Fingerprint of the teacher.
    shard_rows : int
    """
    key = hashlib.sha256(f"1 {teacher} {texts_sha256(texts)} {shard_rows}".encode()).hexdigest()[:32]
    return TeacherShards(locate(uri, error=InputError) / key, -(-len(texts) // shard_rows))


def _name(shard: int) -> str:
    return f"{shard:06d}.parquet"


def _write(file: Location, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    file.write_atomic(sink.getvalue().to_pybytes())


def _read(file: Location) -> pa.Table:
    what, unreadable = f"shard {file.path} can't be read", (OSError, pa.ArrowException)
    with rephrase(DataError, what, on=unreadable, remedy="delete it and run again"):
        if not file.exists():
            raise DataError(
                f"shard {file.path} is not there",
                expected="a place that driver and executors reach by the same path",
                remedy="give --vectors such a place",
            )
        return pq.read_table(pa.BufferReader(file.read_bytes()))
