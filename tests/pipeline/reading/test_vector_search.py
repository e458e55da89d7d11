"""Search over outputs of every kind, beside cosines that NumPy computes over all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakevec.pipeline.errors import CommitError, DataError, SettingsError
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.reading.vector_search import find_nearest, find_rows, read_hits, vectors_at
from tests.support.outputs import Vectors, make_output

WIDTH = 24
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"vector_type": "float16"},
    "int8": {"vector_type": "int8"},
    "binary": {"vector_type": "binary"},
    "binary in delta": {"vector_type": "binary", "table_format": "delta"},
    "sum": {"store": "sum"},
    "delta": {"table_format": "delta"},
    "partitioned": {"partition_by": ("day",), "schema_of_files": {"day": "int"}},
}
MakeOutput = Callable[[str], tuple[VectorReader, list[str], Vectors]]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def some_vectors(count: int) -> list[np.ndarray | None]:
    """Vectors of many lengths, some of them equal, null or zero."""
    random = np.random.default_rng(7)
    vectors: list[np.ndarray | None] = list(random.standard_normal((count, WIDTH), dtype=np.float32))
    for row in range(0, count, 5):
        vectors[row] = vectors[0]
    vectors[3], vectors[4] = None, np.zeros(WIDTH, np.float32)
    return vectors


def stored(vector: np.ndarray | None, kind: str) -> np.ndarray | None:
    """The vector that an output holds."""
    if vector is None or kind not in ("float16", "int8", "binary", "binary in delta"):
        return vector
    if kind.startswith("binary"):
        return np.where(vector > 0, 1, -1).astype(np.float32) if vector.any() else vector
    if kind == "float16":
        return vector.astype(np.float16).astype(np.float32)
    scale = np.abs(vector).max() / np.float32(127)
    return np.rint(vector / scale) if scale else vector


def best_by_hand(
    ids: list[str], vectors: Vectors, queries: np.ndarray, limit: int
) -> list[tuple[str, float]]:
    known = [row for row, vector in enumerate(vectors) if vector is not None and vector.any()]
    matrix = np.array([vectors[row] for row in known], np.float64)
    units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = (matrix @ units.T).max(axis=1) / np.linalg.norm(matrix, axis=1)
    order = np.argsort(-cosines.round(9), kind="stable")[:limit]
    return [(ids[known[place]], float(cosines[place])) for place in order]


@pytest.fixture(scope="module")
def the_output(tmp_path_factory: pytest.TempPathFactory) -> MakeOutput:
    """A function that makes the output of a kind, once."""
    made: dict[str, tuple[VectorReader, list[str], Vectors]] = {}

    def make(kind: str) -> tuple[VectorReader, list[str], Vectors]:
        if kind not in made:
            made[kind] = write_output(tmp_path_factory.mktemp(kind) / "out", kind)
        return made[kind]

    return make


def write_output(folder: Path, kind: str) -> tuple[VectorReader, list[str], Vectors]:
    """Three files, one of them of several row groups."""
    vectors = some_vectors(36_000)
    ids = [f"r{row:05d}" for row in range(len(vectors))]
    cuts = {
        "day=1/": (0, 34_001),
        "day=2/": (34_001, 34_002),
        "day=__HIVE_DEFAULT_PARTITION__/": (34_002, 36_000),
    }
    if kind != "partitioned":
        cuts = {place.replace("day=", "x"): cut for place, cut in cuts.items()}
    files = {place: ({"id": ids[slice(*cut)]}, vectors[slice(*cut)]) for place, cut in cuts.items()}
    output = make_output(folder, files, **KINDS[kind])
    return VectorReader(output), ids, [stored(vector, kind) for vector in vectors]


@pytest.mark.parametrize("kind", KINDS)
def test_search_finds_what_numpy_finds(kind: str, the_output: MakeOutput) -> None:
    reader, ids, vectors = the_output(kind)
    assert len(reader.groups) > 3
    queries = np.random.default_rng(8).standard_normal((2, WIDTH))
    for asked, limit in ((queries[:1], 10), (queries, 7), (np.array([vectors[0]]), 300)):
        hits = find_nearest(reader, asked, limit)
        expected = best_by_hand(ids, vectors, asked, limit)
        assert [row["id"] for row in read_hits(reader, hits, ["id"])] == [name for name, _ in expected]
        assert np.allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-9)


def test_limit_above_the_rows_gives_all_that_have_a_cosine(tmp_path: Path) -> None:
    vectors = [np.array([1, 0], np.float32), None, np.zeros(2, np.float32), np.array([0, 5], np.float32)]
    reader = VectorReader(make_output(tmp_path / "out", {"": ({"id": list("abcd")}, vectors)}))
    hits = find_nearest(reader, np.array([[0, 2.0]]), 10)
    assert [
        (hit.score, *row.values()) for hit, row in zip(hits, read_hits(reader, hits, ["id"]), strict=True)
    ] == [
        (1.0, "d"),
        (0.0, "a"),
    ]


def test_neighbours_of_a_row_leave_it_out(the_output: MakeOutput) -> None:
    reader, ids, vectors = the_output("partitioned")
    places = find_rows(reader, "id", ids[35_001])
    own = vectors_at(reader, places)
    assert np.array_equal(own, [vectors[35_001]])
    hits = find_nearest(reader, own, 4, without=places)
    expected = [name for name, _ in best_by_hand(ids, vectors, own, 5)]
    assert expected[0] == ids[35_001]
    assert [row["id"] for row in read_hits(reader, hits, ["id"])] == expected[1:]
    assert read_hits(reader, hits[:1], ["day"])[0]["day"] in (1, 2, None)


def test_key_may_be_a_partition_column_and_stand_many_times(the_output: MakeOutput) -> None:
    reader, ids, _ = the_output("partitioned")
    [only] = find_rows(reader, "day", "2")
    assert read_hits(reader, find_nearest(reader, vectors_at(reader, [only]), 1), ["id", "day"]) == [
        {"id": ids[34_001], "day": 2}
    ]
    told = "the --key-of given in column 'day': got 34,001; expected at most 1,000; name another column"
    with pytest.raises(SettingsError, match=told):
        find_rows(reader, "day", "1")
    with pytest.raises(SettingsError, match="a value of column 'day', which has the type int32"):
        find_rows(reader, "day", "noon")
    with pytest.raises(SettingsError, match="no row has the --key-of given in column 'id'"):
        find_rows(reader, "id", "nobody")


def test_row_without_a_direction_has_no_neighbours(the_output: MakeOutput) -> None:
    reader, ids, _ = the_output("float32")
    for row in (3, 4):
        with pytest.raises(DataError, match="got a null vector or zeros"):
            vectors_at(reader, find_rows(reader, "id", ids[row]))


def test_files_of_a_foreign_width_and_lost_files_are_refused(tmp_path: Path) -> None:
    output = make_output(tmp_path / "out", {"": ({"id": ["a"]}, [np.ones(3, np.float32)])}, dimensions=4)
    with pytest.raises(DataError, match="got another width, or null numbers; expected 4 numbers each"):
        find_nearest(VectorReader(output), np.ones((1, 4)), 1)
    [file] = (tmp_path / "out").glob("*.parquet")
    file.unlink()
    with pytest.raises(CommitError, match=rf"can't read {file.name} of output .*: got FileNotFoundError"):
        VectorReader(output)


def test_several_embedding_columns_must_be_told_apart(tmp_path: Path) -> None:
    vectors = [np.ones(2, np.float32)]
    output = make_output(tmp_path / "out", {"": ({"id": ["a"]}, vectors)}, columns={"id": "v", "body": "w"})
    assert VectorReader(output, "v").other_columns == ["id"]
    with pytest.raises(SettingsError, match="expected one of v, w; give --embedding-column"):
        VectorReader(output)
    with pytest.raises(SettingsError, match="got 'x'"):
        VectorReader(output, "x")
