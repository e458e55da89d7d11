"""MTEB's own harness has the same figures on the same rows; ``lakevec evaluate --mteb`` runs its tasks."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakevec.pipeline.evaluation.clustering import measure_clusters
from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel
from lakevec.pipeline.evaluation.mteb_tasks import MtebEncoder, find_mteb_tasks
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.evaluation.tasks import find_tasks
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.storage import Location
from tests.support.commands import evaluate
from tests.support.tasks import write

if find_spec("mteb") is None:
    pytest.skip("mteb is not installed", allow_module_level=True)
# Other people's code, whose warnings are theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """Import mteb, and torch with it, where these tests run, and not in every process that collects them."""
    global datasets, mteb
    import datasets
    import mteb.abstasks
    import mteb.abstasks.clustering_legacy
    import mteb.abstasks.pair_classification
    import mteb.abstasks.text.summarization


@pytest.fixture(scope="module")
def model(foreign_models: Path) -> StaticEmbeddingModel:
    return StaticEmbeddingModel("potion", load(str(foreign_models / "potion-base-4M-int8")).table)


def metadata(name: str, kind: str, score: str) -> Any:
    return mteb.TaskMetadata(
        name=name,
        description="rows of a local folder",
        dataset={"path": "local/local", "revision": "1"},
        reference=None,
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
    )


def run(base: type, meta: Any, rows: Any, model: StaticEmbeddingModel, **more: Any) -> dict[str, Any]:
    kind = type(meta.name, (base,), {"metadata": meta, **more})
    task = kind()
    task.dataset, task.data_loaded = rows, True
    return task.evaluate(MtebEncoder(model), split="test", encode_kwargs={"batch_size": 1000})["default"]


def read(data: Path, name: str, **kinds: Any) -> dict[str, list[Any]]:
    return read_columns(Location(pafs.LocalFileSystem(), str(data / f"{name}.parquet")), kinds)


def ours(data: Path, name: str, model: StaticEmbeddingModel) -> dict[str, float]:
    [task] = find_tasks(str(data), [name])
    data = task.load()
    return data.score(model.encode(data.texts)).metrics


def run_sentences(data: Path, name: str, model: StaticEmbeddingModel) -> dict[str, Any]:
    columns = read(data, f"sts/{name}", text1="text", text2="text", score="number")
    rows = {"sentence1": columns["text1"], "sentence2": columns["text2"], "score": columns["score"]}
    return run(
        mteb.abstasks.AbsTaskSTS,
        metadata("Sentences", "STS", "cosine_spearman"),
        {"default": {"test": datasets.Dataset.from_dict(rows)}},
        model,
        min_score=0,
        max_score=5,
    )


@pytest.mark.parametrize("name", ["sts12", "stsb-test", "sick-r-test"])
def test_sentences_agree(shared_data: Path, model: StaticEmbeddingModel, name: str) -> None:
    theirs, found = run_sentences(shared_data, name, model), ours(shared_data, f"sts/{name}", model)
    for metric in ("cosine_spearman", "cosine_pearson"):
        assert found[metric] == pytest.approx(theirs[metric], abs=2e-5)


def test_sentences_without_a_known_token_agree_with_the_models_own_similarity(
    shared_data: Path, model: StaticEmbeddingModel
) -> None:
    """Their ``cosine_*`` go by a distance that is 0.5 from a vector of zeros, and not 1."""
    theirs, found = run_sentences(shared_data, "zh-stsb-dev", model), ours(shared_data, "zh-stsb-dev", model)
    assert found["cosine_pearson"] == pytest.approx(theirs["pearson"], abs=2e-5)
    # In float32 equal texts don't quite tie.
    assert found["cosine_spearman"] == pytest.approx(theirs["spearman"], abs=2e-4)


def test_clusters_agree(shared_data: Path, model: StaticEmbeddingModel) -> None:
    columns = read(shared_data, "clustering/20newsgroups-test", text="text", label="text")
    rows = {"sentences": [columns["text"]], "labels": [columns["label"]]}
    theirs = run(
        mteb.abstasks.clustering_legacy.AbsTaskClusteringLegacy,
        metadata("Clusters", "Clustering", "v_measure"),
        {"default": {"test": datasets.Dataset.from_dict(rows)}},
        model,
    )
    found = measure_clusters(model.encode(columns["text"]), columns["label"], seed=42)
    assert found == pytest.approx(theirs["v_measure"], abs=1e-6)


def test_retrieval_agrees(shared_data: Path, model: StaticEmbeddingModel) -> None:
    for name in ("scifact", "cisi"):
        folder = f"retrieval/{name}"
        corpus = read(shared_data, f"{folder}/corpus", id="text", title="text", text="text")
        queries = read(shared_data, f"{folder}/queries", id="text", text="text")
        judged = read(shared_data, f"{folder}/qrels", query_id="text", corpus_id="text", score="number")
        relevant: dict[str, dict[str, int]] = {}
        for query, document, score in zip(*judged.values(), strict=True):
            relevant.setdefault(query, {})[document] = int(score)
        split = {
            "corpus": datasets.Dataset.from_dict(corpus),
            "queries": datasets.Dataset.from_dict(queries),
            "relevant_docs": relevant,
            "top_ranked": None,
        }
        theirs = run(
            mteb.abstasks.AbsTaskRetrieval,
            metadata("Search", "Retrieval", "ndcg_at_10"),
            {"default": {"test": split}},
            model,
        )
        found = ours(shared_data, name, model)
        for metric in ("ndcg_at_10", "recall_at_10"):
            assert found[metric] == pytest.approx(theirs[metric], abs=1.5e-5)


def test_classification_agrees(shared_data: Path, model: StaticEmbeddingModel) -> None:
    """With our head and all training rows in their harness, which takes 8 of each label by default."""
    train, test = (
        read(shared_data, f"classification/trec6/{part}", text="text", label="text")
        for part in ("train", "test")
    )
    rows = {name: datasets.Dataset.from_dict(part) for name, part in (("train", train), ("test", test))}
    theirs = run(
        mteb.abstasks.AbsTaskClassification,
        metadata("Labels", "Classification", "accuracy"),
        {"default": datasets.DatasetDict(rows)},
        model,
        samples_per_label=10**6,
        n_experiments=1,
        evaluator_model=make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    )
    # Theirs fits in float32, on rows in another order.
    accuracy = ours(shared_data, "trec6", model)["accuracy"]
    assert accuracy == pytest.approx(theirs["accuracy"], abs=0.004)


def write_pairs(folder: Path, shared_data: Path) -> dict[str, list[Any]]:
    """Real paraphrases and other pairs, as a task of pair classification."""
    columns = read(shared_data, "phrases/ppdb-filtered", text1="text", text2="text", label="number")
    columns = {name: values[::4] for name, values in columns.items()}
    write(folder / "pair_classification" / "mine.parquet", **columns)
    return columns


def test_pair_classification_agrees(shared_data: Path, model: StaticEmbeddingModel, tmp_path: Path) -> None:
    columns = write_pairs(tmp_path, shared_data)
    rows = {
        "sentence1": columns["text1"],
        "sentence2": columns["text2"],
        "labels": [int(label) for label in columns["label"]],
    }
    theirs = run(
        mteb.abstasks.pair_classification.AbsTaskPairClassification,
        metadata("Pairs", "PairClassification", "max_ap"),
        {"default": {"test": datasets.Dataset.from_dict(rows)}},
        model,
    )
    found = ours(tmp_path, "mine", model)
    assert len(found) == 15
    for metric, value in found.items():
        assert value == pytest.approx(theirs[metric], abs=2e-4), metric


def test_reranking_agrees(shared_data: Path, model: StaticEmbeddingModel, tmp_path: Path) -> None:
    """Real queries; their documents and forty others of the corpus."""
    corpus = read(shared_data, "retrieval/scifact/corpus", id="text", text="text")
    asked = read(shared_data, "retrieval/scifact/queries", id="text", text="text")
    judged = read(shared_data, "retrieval/scifact/qrels", query_id="text", corpus_id="text")
    texts, queries = (dict(zip(part["id"], part["text"], strict=True)) for part in (corpus, asked))
    good: dict[str, list[str]] = {}
    for query, document in zip(*judged.values(), strict=True):
        good.setdefault(queries[query], []).append(texts[document])
    positive = list(good.values())
    # No text twice: in float32, theirs would not quite tie.
    negative = [
        [text for text in corpus["text"][place::130] if text not in wanted]
        for place, wanted in enumerate(positive)
    ]
    write(tmp_path / "reranking" / "mine.parquet", query=list(good), positive=positive, negative=negative)
    split: dict[str, Any] = {"corpus": [], "relevant_docs": {}, "top_ranked": {}}
    for place, (wanted, others) in enumerate(zip(positive, negative, strict=True)):
        # Ids as mteb makes them from lists.
        ids = {f"apositive_{place}_{row:05d}": text for row, text in enumerate(wanted)}
        gains = dict.fromkeys(ids, 1)
        ids |= {f"negative_{place}_{row:05d}": text for row, text in enumerate(others)}
        split["relevant_docs"][str(place)] = {**dict.fromkeys(ids, 0), **gains}
        split["top_ranked"][str(place)] = list(ids)
        split["corpus"] += [{"id": name, "title": "", "text": text} for name, text in ids.items()]
    split["corpus"] = datasets.Dataset.from_list(split["corpus"])
    named = {"id": [str(place) for place in range(len(good))], "text": list(good)}
    split["queries"] = datasets.Dataset.from_dict(named)
    theirs = run(
        mteb.abstasks.AbsTaskRetrieval,
        metadata("Candidates", "Reranking", "map_at_1000"),
        {"default": {"test": split}},
        model,
    )
    found = ours(tmp_path, "mine", model)
    assert 0.2 < found["map_at_1000"] < 0.9
    for metric, value in found.items():
        assert value == pytest.approx(theirs[metric], abs=1.5e-5), metric


def test_summarization_agrees(shared_data: Path, model: StaticEmbeddingModel, tmp_path: Path) -> None:
    """Sentences that people rated by how much they say what another one says."""
    columns = read(shared_data, "sts/sick-r-test", text1="text", text2="text", score="number")
    rated: dict[str, list[tuple[str, float]]] = {}
    for one, other, rating in zip(*columns.values(), strict=True):
        rated.setdefault(one, []).append((other, rating))
    rated = {one: others for one, others in rated.items() if len(others) > 2}
    rows = {
        "text": list(rated),
        "human_summaries": [[one] for one in rated],
        "machine_summaries": [[other for other, _ in others] for others in rated.values()],
        "relevance": [[rating for _, rating in others] for others in rated.values()],
    }
    write(tmp_path / "summarization" / "mine.parquet", **rows)
    theirs = run(
        mteb.abstasks.text.summarization.AbsTaskSummarization,
        metadata("Summaries", "Summarization", "cosine_spearman"),
        {"default": {"test": datasets.Dataset.from_dict(rows)}},
        model,
        min_score=1,
        max_score=5,
    )
    found = ours(tmp_path, "mine", model)
    assert len(rated) > 50
    assert found["cosine_spearman"] == pytest.approx(theirs["cosine_spearman"], abs=1e-6)
    assert found["cosine_pearson"] == pytest.approx(theirs["cosine_pearson"], abs=1e-6)


@pytest.fixture
def hub_cache(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of STSBenchmark as `datasets` keeps them after a download; the hub itself can't be reached."""
    rows = pq.read_table(shared_data / "sts" / "stsb-test.parquet").select(["text1", "text2", "score"])
    rows = rows.rename_columns(["sentence1", "sentence2", "score"])
    folder = tmp_path / "cache" / "mteb___stsbenchmark-sts" / "default" / "0.0.0" / "local"
    folder.mkdir(parents=True)
    with pa.ipc.new_stream(str(folder / "stsbenchmark-sts-test.arrow"), rows.schema) as stream:
        stream.write_table(rows)
    described = datasets.DatasetInfo(
        features=datasets.Features.from_arrow_schema(rows.schema),
        config_name="default",
        dataset_name="stsbenchmark-sts",
        version="0.0.0",
        splits={"test": {"name": "test", "num_examples": len(rows)}},
    )
    described.write_to_directory(str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_tasks_of_mteb_are_in_the_report(
    shared_data: Path, foreign_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    potion = str(foreign_models / "potion-base-4M-int8")
    command = ["--model", potion, "--mteb", "STSBenchmark"]
    both = ["--data", str(shared_data), "--only", "stsb-test", "SICK-R", "--speed-texts", "1"]
    records = []
    for name, words in (("alone", []), ("both", both)):
        assert evaluate([*command, *words, "--output", str(tmp_path / name)]) == 0
        records.append(json.loads((tmp_path / name / "evaluation.json").read_text()))
    [alone], [model] = (record["models"] for record in records)
    theirs = alone["tasks"]["mteb/STSBenchmark"]
    assert alone["averages"] == {"sts": theirs["value"]}
    assert theirs["metric"] == "cosine_spearman"
    assert records[0]["versions"]["mteb"] == mteb.__version__
    # The folder's task of the same name stands for it in the average.
    assert [task["averaged"] for task in records[1]["tasks"]] == [False, True, True]
    mine = model["tasks"]["sts/STSBenchmark"]
    assert mine["value"] == pytest.approx(theirs["value"], abs=2e-5)
    assert model["averages"]["sts"] == pytest.approx(
        (mine["value"] + model["tasks"]["sts/SICK-R"]["value"]) / 2, abs=2e-6
    )
    assert '<th scope="row">STSBenchmark (run by mteb)</th>' in (tmp_path / "both/report.html").read_text()
    # Their data are not in the cache.
    assert evaluate(["--model", potion, "--mteb", "SICK-R", "--output", str(tmp_path / "none")]) == 2
    assert "the data of mteb's task 'SICK-R' can't be loaded: got ConnectionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("STSBenchmrk", "mteb: no task 'STSBenchmrk' in the mteb library: did you mean 'STSBenchmark'?"),
        (
            "BornholmBitextMining",
            "mteb: task 'BornholmBitextMining': got type BitextMining; expected a task on",
        ),
    ],
)
def test_names_that_are_no_task_are_refused(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(["--model", "gone", "--mteb", name, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_languages_are_english_where_a_task_has_it() -> None:
    english, several, danish = find_mteb_tasks(["STS12", "STS17", "DKHateClassification"])
    assert (english.is_averaged, english.note) == (True, "run by mteb")
    assert (several.is_averaged, list(several.task.hf_subsets)) == (True, ["en-en"])
    assert (danish.is_averaged, danish.note) == (False, "run by mteb; dan")
