"""MTEB's own harness on the same rows: the same figures.

Skipped where `mteb` is not installed; it is no dependency. To run it: ``pip install mteb`` into an
environment that has lakevec with its extra ``dev``, and ``pytest tests/pipeline/evaluation/test_mteb.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import fs as pafs

mteb = pytest.importorskip("mteb", reason="mteb is not installed")
datasets = pytest.importorskip("datasets", reason="datasets is not installed")

from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS  # noqa: E402
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy  # noqa: E402
from mteb.abstasks.pair_classification import AbsTaskPairClassification  # noqa: E402
from mteb.models.model_meta import ModelMeta  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from lakevec.pipeline.evaluation.classification import predict_labels  # noqa: E402
from lakevec.pipeline.evaluation.clustering import measure_clusters  # noqa: E402
from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel  # noqa: E402
from lakevec.pipeline.evaluation.task_files import read_columns  # noqa: E402
from lakevec.pipeline.evaluation.tasks import find_tasks  # noqa: E402
from lakevec.pipeline.model.artifact import load  # noqa: E402
from lakevec.pipeline.storage import Location  # noqa: E402

# Other people's code, whose warnings are theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


class Wrapped:
    """A table as a model of mteb's."""

    mteb_model_meta = ModelMeta.create_empty({"name": "lakevec/table", "revision": "1"})

    def __init__(self, model: StaticEmbeddingModel) -> None:
        self._model = model

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        return self._model.encode([text for batch in inputs for text in batch["text"]])

    def similarity(self, left: Any, right: Any) -> Any:
        return mteb.similarity_functions.cos_sim(left, right)

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        return mteb.similarity_functions.pairwise_cos_sim(left, right)


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
    return task.evaluate(Wrapped(model), split="test", encode_kwargs={"batch_size": 1000})["default"]


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
        AbsTaskSTS,
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
        AbsTaskClusteringLegacy,
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
            AbsTaskRetrieval,
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
        AbsTaskClassification,
        metadata("Labels", "Classification", "accuracy"),
        {"default": datasets.DatasetDict(rows)},
        model,
        samples_per_label=10**6,
        n_experiments=1,
        evaluator_model=make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    )
    predicted = predict_labels(model.encode(train["text"]), train["label"], model.encode(test["text"]))
    accuracy = float((predicted == np.array(test["label"])).mean())
    # Theirs fits in float32, on rows in another order.
    assert accuracy == pytest.approx(theirs["accuracy"], abs=0.004)
    assert ours(shared_data, "trec6", model)["accuracy"] == accuracy


def test_paraphrases_agree(shared_data: Path, model: StaticEmbeddingModel) -> None:
    columns = read(shared_data, "phrases/ppdb-filtered", text1="text", text2="text", label="number")
    rows = {
        "sentence1": columns["text1"],
        "sentence2": columns["text2"],
        "labels": [int(label) for label in columns["label"]],
    }
    theirs = run(
        AbsTaskPairClassification,
        metadata("Paraphrases", "PairClassification", "max_ap"),
        {"default": {"test": datasets.Dataset.from_dict(rows)}},
        model,
    )
    found = ours(shared_data, "ppdb-filtered", model)
    assert found["cosine_accuracy"] == pytest.approx(theirs["cosine_accuracy"], abs=2e-4)
    assert found["cosine_ap"] == pytest.approx(theirs["cosine_ap"], abs=2e-4)
