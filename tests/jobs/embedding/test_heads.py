"""``lakevec embed --head``: the columns of labels, and what an output promises about them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.heads.head import Head, HeadKind
from lakevec.pipeline.heads.head_folder import load_head, publish_head
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.bigrams import quantize_bigrams
from lakevec.pipeline.model.publishing import publish
from tests.support.commands import embed as main
from tests.support.commands import search, verify
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]
TEXTS = ["North east", "north", "", None, "southwest southwest"]
COLUMNS = ["way_label", "way_probability", "tags_label", "tags_probability", "size_value"]


@pytest.fixture(scope="module")
def heads(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A head of each kind for two dimensions."""
    folder, model = tmp_path_factory.mktemp("heads"), load(tiny_model).table.fingerprint
    made = {
        "way": (HeadKind.CLASSIFICATION, [[0, 3], [3, 0], [-2, -2]], [0, 0, 0.5], ("n", "e", "sw")),
        "tags": (HeadKind.MULTI_LABEL, [[0, 4], [4, 0]], [-1, -1], ("up", "right")),
        "size": (HeadKind.REGRESSION, [[10, 1]], [5], ()),
    }
    for name, (kind, rows, zeros, labels) in made.items():
        arrays = np.array(rows, np.float32), np.array(zeros, np.float32)
        publish_head(Head(name, kind, model, *arrays, labels), f"{folder}/{name}")
    return [f"{folder}/{name}" for name in made]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    pq.write_table(pa.table({"id": range(5), "text": TEXTS}), folder / "a.parquet")
    return folder


def run(model: str, lake: Path, output: Path, heads: list[str], *words: str) -> int:
    paths = ["--input", str(lake), "--output", str(output), *(["--head", *heads] if heads else [])]
    return main(["--model", model, "--text", "text", *paths, *words])


def expected_rows(model: str, heads: list[str], texts: list[str | None] = TEXTS) -> list[dict[str, Any]]:
    """The labels of texts by `Head.predict`, one text at a time."""
    rows = []
    for text in texts:
        row: dict[str, Any] = {}
        for head in map(load_head, heads):
            [labels], shares = head.predict(load(model).encode([text]))
            if head.kind is HeadKind.REGRESSION:
                row["size_value"] = labels
            else:
                row |= {f"{head.name}_label": labels, f"{head.name}_probability": shares[0]}
        rows.append(row if text is not None else dict.fromkeys(row))
    return rows


def labels_of(rows: pa.Table) -> list[dict[str, Any]]:
    return rows.sort_by("id").select(COLUMNS).to_pylist()


def test_rows_get_labels_beside_their_vectors(
    tiny_model: str, heads: list[str], lake: Path, out: Path, spark: Any, told: Callable[[], str]
) -> None:
    assert run(tiny_model, lake, out, heads) == 0
    rows = pq.read_table(out)
    assert rows.column_names == ["id", "text", "text_embedding", *COLUMNS]
    assert labels_of(rows) == expected_rows(tiny_model, heads)
    assert labels_of(rows)[1]["way_label"] == "n"
    assert labels_of(rows)[2]["tags_label"] == []
    kinds = {field.name: field.dataType.simpleString() for field in spark.read.parquet(str(out)).schema}
    assert [kinds[name] for name in COLUMNS] == ["string", "float", "array<string>", "array<float>", "double"]
    assert spark.read.parquet(str(out)).filter("way_label = 'sw'").count() == 2
    record = json.loads((out / "_lakevec" / "run.json").read_text())
    assert record["heads"]["way"] == {"uri": heads[0], "fingerprint": load_head(heads[0]).fingerprint}
    assert verify([str(out)]) == 0
    assert run(tiny_model, lake, out, heads) == 0
    assert json.loads((out / "_lakevec" / "run.json").read_text())["status"] == "nothing new"
    # New files get labels, too.
    pq.write_table(pa.table({"id": [5], "text": ["east"]}), lake / "b.parquet")
    assert run(tiny_model, lake, out, heads) == 0
    assert labels_of(pq.read_table(out)) == expected_rows(tiny_model, heads, [*TEXTS, "east"])


def test_another_head_needs_a_full_refresh(
    tiny_model: str, heads: list[str], lake: Path, out: Path, tmp_path: Path, told: Callable[[], str]
) -> None:
    assert run(tiny_model, lake, out, heads[:1]) == 0
    head = load_head(heads[0])
    publish_head(
        replace(head, intercepts=head.intercepts + np.array([1, 0, 0], np.float32)), f"{tmp_path}/way2"
    )
    other = [f"{tmp_path}/way2"]
    assert run(tiny_model, lake, out, other) == 2
    said = told()
    assert f"heads {{way: {load_head(other[0]).fingerprint}}}, not {{way: {head.fingerprint}}}" in said
    assert "rewrite the output with --full-refresh" in said
    assert run(tiny_model, lake, out, []) == 2
    assert "heads none, not {way" in told()
    assert run(tiny_model, lake, out, other, "--full-refresh") == 0
    assert pq.read_table(out)["way_probability"].to_pylist() != [
        row["way_probability"] for row in expected_rows(tiny_model, heads[:1])
    ]
    assert verify([str(out)]) == 0


def test_output_without_heads_is_as_before(
    tiny_model: str, heads: list[str], lake: Path, out: Path, told: Callable[[], str]
) -> None:
    assert run(tiny_model, lake, out, []) == 0
    [file] = (out / "_lakevec").glob("*/output.json")
    assert {"heads", "head_uris", "has_vectors"} & json.loads(file.read_text()).keys() == set()
    assert run(tiny_model, lake, out, heads[:1]) == 2
    assert "heads {way: sha256:" in told()


def test_key_labels_changed_rows_again(
    tiny_model: str, heads: list[str], lake: Path, out: Path, tmp_path: Path
) -> None:
    assert run(tiny_model, lake, out, heads, "--key", "id") == 0
    texts = ["east", *TEXTS[1:]]
    pq.write_table(pa.table({"id": range(5), "text": texts}), lake / "a.parquet")
    assert run(tiny_model, lake, out, heads, "--key", "id") == 0
    assert labels_of(pq.read_table(out)) == expected_rows(tiny_model, heads, texts)
    # As with another model, all rows are embedded again with another head.
    head = load_head(heads[0])
    publish_head(
        replace(head, intercepts=head.intercepts + np.array([1, 0, 0], np.float32)), f"{tmp_path}/way2"
    )
    other = [f"{tmp_path}/way2", *heads[1:]]
    assert run(tiny_model, lake, out, other, "--key", "id") == 0
    assert labels_of(pq.read_table(out)) == expected_rows(tiny_model, other, texts)
    assert verify([str(out)]) == 0


def test_labels_without_vectors(
    tiny_model: str, heads: list[str], lake: Path, out: Path, told: Callable[[], str]
) -> None:
    more = ["--no-vectors", "--key", "id"]
    assert run(tiny_model, lake, out, heads, *more) == 0
    pq.write_table(pa.table({"id": range(1, 5), "text": TEXTS[1:]}), lake / "a.parquet")
    assert run(tiny_model, lake, out, heads, *more, "--deletes", "remove") == 0
    rows = pq.read_table(out)
    assert "text_embedding" not in rows.column_names
    assert labels_of(rows) == expected_rows(tiny_model, heads, TEXTS[1:])
    assert verify([str(out)]) == 0
    assert search([str(out), "north"]) == 2
    assert "the output holds no vectors" in told()
    assert run(tiny_model, lake, out, heads, "--key", "id") == 2
    assert "vectors yes, not no" in told()
    assert run(tiny_model, lake, out, [], "--no-vectors") == 2
    assert "no-vectors needs a head" in told()


def test_heads_of_binary_vectors_see_floats(
    tiny_model: str, heads: list[str], lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(tiny_model, lake, out, heads, "--vector-type", "binary", "--key", "id") == 0
    rows = pq.read_table(out)
    assert rows.schema.field("text_embedding").type == pa.binary(1)
    assert labels_of(rows) == expected_rows(tiny_model, heads)
    assert verify([str(out)]) == 0
    assert "4 texts embedded again, with the same bits" in capsys.readouterr().out


def test_heads_follow_position_weights_and_bigrams(
    tiny_model: str, heads: list[str], lake: Path, out: Path, tmp_path: Path, told: Callable[[], str]
) -> None:
    table = load(tiny_model).table
    ids = Tokenizer.from_str(table.tokenizer_json).get_vocab()
    pairs = np.array([[ids["north"], ids["east"]]], np.int32)
    bigrams = quantize_bigrams(pairs, np.array([[4.0, -2.0]]))
    model = f"{tmp_path}/model"
    publish(replace(table, position_scale=2.0, bigrams=bigrams), model)
    others = []
    for uri in heads:
        head = replace(load_head(uri), model=load(model).table.fingerprint)
        others.append(f"{tmp_path}/{head.name}")
        publish_head(head, others[-1])
    assert run(model, lake, out, heads) == 2
    assert "was trained for another model" in told()
    assert run(model, lake, out, others) == 0
    assert labels_of(pq.read_table(out)) == expected_rows(model, others)
    assert expected_rows(model, others)[0] != expected_rows(tiny_model, heads)[0]
    assert verify([str(out)]) == 0


@pytest.mark.parametrize("more", [[], ["--no-vectors"]], ids=["vectors", "labels only"])
def test_delta_holds_labels(
    tiny_model: str, heads: list[str], lake: Path, out: Path, more: list[str]
) -> None:
    from deltalake import DeltaTable

    for _ in range(2):
        assert run(tiny_model, lake, out, heads, "--table-format", "delta", *more) == 0
    assert labels_of(DeltaTable(str(out)).to_pyarrow_table()) == expected_rows(tiny_model, heads)
    assert verify([str(out)]) == 0


@pytest.mark.parametrize("kind", ["float32", "binary"])
@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_sparks_writer_writes_the_same_labels(
    tiny_model: str, heads: list[str], lake: Path, out: Path, spark: Any, form: str, kind: str
) -> None:
    more = ["--output-format", form, "--vector-type", kind, "--dimensions", "2"]
    assert run(tiny_model, lake, out, heads, "--sink", "spark", *more) == 0
    rows = spark.read.format(form).load(str(out)).orderBy("id").select(*COLUMNS).collect()
    assert [row.asDict() for row in rows] == expected_rows(tiny_model, heads)


def test_chunks_and_small_vectors_are_labelled_by_the_exact_vector(
    tiny_model: str, heads: list[str], tmp_path: Path, out: Path
) -> None:
    pytest.importorskip("icu4py")
    pq.write_table(pa.table({"id": [0], "text": ["north north east east southwest"]}), tmp_path / "l.parquet")
    more = ["--chunk-tokens", "2", "--chunk-text", "--vector-type", "int8"]
    assert run(tiny_model, tmp_path / "l.parquet", out, heads, *more) == 0
    rows = pq.read_table(out).sort_by("chunk_index")
    assert len(rows) > 1
    expected = expected_rows(tiny_model, heads, rows["chunk_text"].to_pylist())
    assert rows.select(COLUMNS).to_pylist() == expected
    assert verify([str(out)]) == 0


def test_invalid_texts_have_no_label_and_several_columns_have_their_own(
    tiny_model: str, heads: list[str], tmp_path: Path, out: Path
) -> None:
    texts = pa.array([b"north", b"\xff"], pa.binary())
    pq.write_table(pa.table({"id": [0, 1], "text": texts, "b": ["east", "north"]}), tmp_path / "l.parquet")
    words = ["--text", "b", "--on-bad-row", "null", "--keep", "id"]
    assert run(tiny_model, tmp_path / "l.parquet", out, heads[:1], *words) == 0
    rows = pq.read_table(out).sort_by("id")
    assert rows["text_way_label"].to_pylist() == ["n", None]
    assert rows["b_way_label"].to_pylist() == ["e", "n"]


def test_verify_finds_labels_that_the_head_did_not_give(
    tiny_model: str, heads: list[str], lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_model, lake, out, heads[:1]) == 0
    [file] = out.glob("*.parquet")
    content, size = file.read_bytes(), file.stat().st_size
    table = pq.read_table(file)
    shares = pa.array([0.25, *table["way_probability"].to_pylist()[1:]], pa.float32())
    pq.write_table(table.set_column(4, "way_probability", shares), file)
    commit = next((out / "_lakevec").glob("*/log/*"))
    # The log promises a size, so the damaged file gets one that fits.
    commit.write_text(commit.read_text().replace(f'"bytes":{size}', f'"bytes":{file.stat().st_size}'))
    assert verify([str(out)]) == 1
    assert "holds labels in column 'way_probability' that don't match" in capsys.readouterr().out
    file.write_bytes(content)


def test_head_that_does_not_fit_is_refused_before_spark(
    tiny_model: str, other_model: str, heads: list[str], lake: Path, out: Path, tmp_path: Path,
    told: Callable[[], str],
) -> None:  # fmt: skip
    assert run(other_model, lake, out, heads[:1]) == 2
    assert f"head {heads[0]!r} was trained for another model" in told()
    assert run(tiny_model, lake, out, heads[:1], "--max-tokens", "3") == 2
    assert "was trained with another --max-tokens: got 3; expected none" in told()
    assert run(tiny_model, lake, out, [heads[0], heads[0]]) == 2
    assert "two heads have the name 'way'" in told()
    assert run(tiny_model, lake, out, heads[:1], "--store", "sum") == 2
    assert "head needs store mean" in told()
    assert run(tiny_model, lake, out, heads[:1], "--dimensions", "1") == 2
    assert "heads need whole vectors: got --dimensions 1; expected all 2 dimensions" in told()
    assert run(tiny_model, lake, out, [tiny_model]) == 2
    assert "is no head" in told()
    pq.write_table(pa.table({"text": ["north"], "way_label": ["x"]}), lake / "a.parquet")
    assert run(tiny_model, lake, out, heads[:1]) == 2
    assert "column 'way_label' of embeddings or heads clashes with another column" in told()


def test_tasks_with_heads_import_no_scikit_learn(tiny_model: str, heads: list[str]) -> None:
    code = f"""
import sys
import numpy as np
import lakevec.udfs.embed_task
from lakevec.pipeline.heads.columns import to_arrow_columns
from lakevec.pipeline.heads.head_folder import load_head
for uri in {heads!r}:
    to_arrow_columns([load_head(uri)], np.ones((3, 2), np.float32), np.zeros(3, bool))
print(sorted({{"sklearn", "pandas", "pydantic", "pyspark"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
