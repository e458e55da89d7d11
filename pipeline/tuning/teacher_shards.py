"""The sample and the teacher's vectors of it, in numbered Parquet files of a folder of their own.

A piece is there whole or not at all, so a run that was killed goes on where it was. The folder's name tells
teacher and texts: another teacher or sample lies in another folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.errors import DataError, InputError
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.storage import Location, locate

_TEXTS, _VECTORS = "texts", "vectors"


@dataclass(frozen=True)
class TeacherShards:
    """Where the pieces of one sample and teacher lie.

    Parameters
    ----------
    folder : Location
    number : int
        How many there are, P.
    """

    folder: Location
    number: int

    def missing(self) -> list[int]:
        """Return the pieces whose vectors aren't there yet."""
        names = {info.base_name for info in (self.folder / _VECTORS).list()}
        return [piece for piece in range(self.number) if _name(piece) not in names]

    def write_texts(self, texts: Sequence[str], *, piece_rows: int) -> None:
        """Write the sample, unless it is there."""
        names = {info.base_name for info in (self.folder / _TEXTS).list()}
        for piece in range(self.number):
            if _name(piece) not in names:
                part = texts[piece * piece_rows : (piece + 1) * piece_rows]
                table = pa.table({"text": pa.array(part, pa.string())})
                (self.folder / _TEXTS / _name(piece)).write_atomic(_parquet_bytes(table))

    def read_texts(self, piece: int) -> list[str]:
        """Return the texts of a piece."""
        texts: list[str] = _read(self.folder / _TEXTS / _name(piece))["text"].to_pylist()
        return texts

    def write_vectors(self, piece: int, vectors: np.ndarray) -> None:
        """Write the teacher's vectors of a piece in one step.

        Parameters
        ----------
        piece : int
        vectors : float32 ndarray of shape (N, H)
        """
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        (self.folder / _VECTORS / _name(piece)).write_atomic(_parquet_bytes(pa.table({"vector": column})))

    def read_vectors(self) -> np.ndarray:
        """Return all vectors in the order of the texts.

        Returns
        -------
        float32 ndarray of shape (N, H)

        Raises
        ------
        DataError
            If a piece is missing, damaged or holds values that are not finite.
        """
        parts = []
        for piece in range(self.number):
            column = _read(self.folder / _VECTORS / _name(piece))["vector"].combine_chunks()
            width = column.type.list_size
            parts.append(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
        vectors: np.ndarray = np.concatenate(parts).astype(np.float32, copy=False)
        if not np.isfinite(vectors).all():
            raise DataError(
                f"the teacher's vectors in {self.folder.path} hold NaN or infinity",
                remedy="delete that folder and run again, with another --precision if it stays",
            )
        return vectors


def open_shards(uri: str, texts: Sequence[str], *, teacher: str, piece_rows: int) -> TeacherShards:
    """Say where sample and vectors belong.

    Parameters
    ----------
    uri : str
        Folder or URI for any number of samples and teachers.
    texts : sequence of str
        The sample.
    teacher : str
        Fingerprint of the teacher.
    piece_rows : int

    Returns
    -------
    TeacherShards

    Raises
    ------
    InputError
        If the place can't be reached.
    """
    key = hashlib.sha256(f"1 {teacher} {texts_sha256(texts)} {piece_rows}".encode()).hexdigest()[:32]
    return TeacherShards(locate(uri, error=InputError) / key, -(-len(texts) // piece_rows))


def _name(piece: int) -> str:
    return f"{piece:06d}.parquet"


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _read(file: Location) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(file.read_bytes()))
    except FileNotFoundError:
        raise DataError(
            f"piece {file.path} is not there",
            expected="a place that driver and executors reach by the same path",
            remedy="give --vectors such a place",
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"piece {file.path} can't be read",
            got=" ".join(str(error).split())[:200],
            remedy="delete it and run again",
        ) from None
