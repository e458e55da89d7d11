"""Metrics and tasks: by hand, beside scipy and scikit-learn, and on real data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs as pafs
from scipy import stats
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, ndcg_score
from sklearn.metrics.pairwise import paired_cosine_distances
from sklearn.preprocessing import scale

from lakevec.pipeline.errors import DataError, InputError, SettingsError
from lakevec.pipeline.evaluation.classification import load_classification, predict_labels
from lakevec.pipeline.evaluation.clustering import load_clustering, measure_clusters
from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel, VectorCache, encode_distinct
from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, paired_cosines
from lakevec.pipeline.evaluation.phrases import best_accuracy, count_right_choices, load_phrases
from lakevec.pipeline.evaluation.record import average_groups, rounded
from lakevec.pipeline.evaluation.retrieval import load_retrieval, ndcg, rank_documents
from lakevec.pipeline.evaluation.runner import TaskResult, choose_speed_texts, measure_speed, run_task
from lakevec.pipeline.evaluation.sampling import sample_texts
from lakevec.pipeline.evaluation.similarity import load_sentences, load_words
from lakevec.pipeline.evaluation.tasks import find_tasks
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.storage import Location

# Where the words of the tiny table point, and one that it does not know.
WHERE = {"north": (0.0, 1.0), "east": (1.0, 0.0), "southwest": (-1.0, -1.0), "nowhere": (0.0, 0.0)}


def point(texts: Sequence[str]) -> np.ndarray:
    return np.array([WHERE.get(text, (0.0, 0.0)) for text in texts], np.float32)


def evaluate(data: TaskData, encode: Callable[[Sequence[str]], np.ndarray]) -> TaskScores:
    return data.score(encode(data.texts))


def place(path: Path) -> Location:
    return Location(pafs.LocalFileSystem(), str(path))


def write(path: Path, **columns: list[Any]) -> Location:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return place(path)


@pytest.fixture(scope="module")
def potion(foreign_models: Path) -> StaticEmbeddingModel:
    return StaticEmbeddingModel("potion", load(str(foreign_models / "potion-base-4M-int8")).table)


def read(file: Path) -> pd.DataFrame:
    return pq.read_table(file).to_pandas()


class Counting:
    """A model that remembers what it was asked for."""

    name, fingerprint, dimensions, parameters, size_bytes = "counting", "sha256:0", 2, 0, 0

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def prepare(self) -> None:
        self.asked.append(["prepared"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return point(texts)


def test_words_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        word1=["north", "north", "north", "north"],
        word2=["north", "east", "southwest", "nowhere"],
        score=[5.0, 3.0, 1.0, 4.0],
    )
    scores = evaluate(load_words(file), point)
    # Cosines 1, 0, -0.71 and, of a word that is not known, 0.
    expected = stats.spearmanr([3, 1.5, 0, 1.5], [5, 3, 1, 4]).statistic
    assert scores.metrics["cosine_spearman"] == pytest.approx(expected)
    assert scores.metrics["cosine_spearman_known"] == pytest.approx(1.0)
    assert scores.counts == {"pairs": 4, "pairs_with_unknown": 1}


def test_vectors_that_are_all_alike_correlate_with_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text1=["x", "y"], text2=["y", "x"], score=[1.0, 2.0])
    assert evaluate(load_sentences(file), point).value == 0.0


def test_sentences_agree_with_scikit_learn_and_pandas(
    shared_data: Path, potion: StaticEmbeddingModel
) -> None:
    file = shared_data / "sts" / "stsb-test.parquet"
    rows = read(file)
    distances = paired_cosine_distances(potion.encode(rows.text1), potion.encode(rows.text2))
    scores = evaluate(load_sentences(place(file)), potion.encode)
    both = pd.DataFrame({"cosine": 1 - distances, "score": rows.score})
    assert scores.value == pytest.approx(both.corr(method="spearman").iloc[0, 1], abs=1e-5)
    assert scores.metrics["cosine_pearson"] == pytest.approx(both.corr().iloc[0, 1], abs=1e-5)
    assert scores.main == "cosine_spearman"


def test_head_agrees_with_another_solver(shared_data: Path, potion: StaticEmbeddingModel) -> None:
    train, test = (
        read(shared_data / "classification" / "sst2" / f"{part}.parquet") for part in ("train", "test")
    )
    train = train[::30]
    seen = potion.encode(train.text).astype(np.float64)
    unseen = potion.encode(test.text).astype(np.float64)
    found = predict_labels(seen, train.label.tolist(), unseen)
    head = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(scale(seen), train.label)
    expected = head.predict((unseen - seen.mean(axis=0)) / seen.std(axis=0))
    assert (found == expected).mean() > 0.998
    assert 0.6 < (found == test.label).mean() < 0.9


def test_head_does_not_care_how_vectors_are_scaled() -> None:
    random = np.random.default_rng(0)
    seen, unseen = random.normal(size=(200, 8)), random.normal(size=(100, 8))
    labels = ["yes" if row[0] > row[1] else "no" for row in seen]
    found = predict_labels(seen, labels, unseen)
    assert (predict_labels(seen * 1000, labels, unseen * 1000) == found).all()
    assert (found == np.where(unseen[:, 0] > unseen[:, 1], "yes", "no")).mean() > 0.9


def test_classification_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "t" / "train.parquet", text=["north", "east"] * 3, label=["n", "e"] * 3)
    write(
        tmp_path / "t" / "test.parquet", text=["north", "east", "east", "nowhere"], label=["n", "e", "n", "n"]
    )
    scores = evaluate(load_classification(place(tmp_path / "t")), point)
    assert scores.metrics["accuracy"] in (0.5, 0.75)  # nowhere lies on the border
    assert scores.counts == {"train": 6, "test": 4, "labels": 2, "unknown": 1}


def test_clusters_agree_with_entropies(shared_data: Path, potion: StaticEmbeddingModel) -> None:
    rows = read(shared_data / "clustering" / "stackoverflow20.parquet")[::20]
    vectors = potion.encode(rows.text)
    means = MiniBatchKMeans(20, batch_size=500, n_init="auto", random_state=42)
    counts = pd.crosstab(rows.label.to_numpy(), means.fit_predict(vectors)).to_numpy()
    classes, clusters = stats.entropy(counts.sum(axis=1)), stats.entropy(counts.sum(axis=0))
    mutual = classes + clusters - stats.entropy(counts.ravel())
    expected = 2 * (mutual / classes) * (mutual / clusters) / (mutual / classes + mutual / clusters)
    assert measure_clusters(vectors, rows.label.tolist(), seed=42) == pytest.approx(expected, abs=1e-6)


def test_clusters_that_are_plain_are_found(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["north", "east", "southwest"] * 10, label=["n", "e", "s"] * 10)
    assert evaluate(load_clustering(file), point).metrics == {"v_measure": 1.0, "v_measure_std": 0.0}


def test_ndcg_by_hand() -> None:
    relevant = {"b": 1.0, "c": 1.0, "d": 1.0}
    # Ranks 2 and 3 of three that could stand at 1, 2 and 3.
    expected = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2)
    assert ndcg(["a", "b", "c"], relevant) == pytest.approx(expected)
    assert ndcg(["x"] * 10 + ["b"], relevant) == 0.0
    assert ndcg(["d", "c", "b"], relevant) == pytest.approx(1.0)


def test_ndcg_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        gains, scores = random.integers(0, 4, 40).astype(float), random.permutation(40).astype(float)
        found = [str(row) for row in np.argsort(-scores)]
        relevant = {str(row): gain for row, gain in enumerate(gains) if gain > 0}
        assert ndcg(found, relevant) == pytest.approx(ndcg_score([gains], [scores], k=10))


def test_of_documents_that_are_equally_near_the_greater_id_comes_first() -> None:
    documents = point(["east", "north", "north", "north"])
    assert list(rank_documents(point(["north"]), documents, ["9", "1", "3", "2"])) == [["3", "2", "1", "9"]]
    many = np.tile(documents, (10, 1))
    names = [f"{number:02d}" for number in range(40)]
    [found] = rank_documents(point(["east"]), many, names, depth=3)
    assert found == ["36", "32", "28"]


def test_retrieval_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    write(folder / "corpus.parquet", id=["a", "b"], title=["", "north"], text=["east", ""])
    write(folder / "queries.parquet", id=["1", "2", "3"], text=["north", "east", "unjudged"])
    write(
        folder / "qrels.parquet",
        query_id=["1", "2", "2", "3"],
        corpus_id=["b", "b", "gone", "a"],
        score=[1, 2, 1, 0],
    )
    scores = evaluate(load_retrieval(place(folder)), point)
    # Query 1 finds its document first; query 2 at rank 2, and one of its documents is not in the corpus.
    second = (2 / math.log2(3)) / (2 + 1 / math.log2(3))
    assert scores.metrics["ndcg_at_10"] == pytest.approx((1 + second) / 2)
    assert scores.metrics["recall_at_10"] == pytest.approx((1 + 0.5) / 2)
    assert scores.counts == {"documents": 2, "queries": 2, "unknown": 0}


def test_turney_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "turney.parquet",
        phrase=["north", "north", "nowhere", "north"],
        answer=["north", "east", "north", "north"],
        component1=["x"] * 4,
        component2=["x"] * 4,
        distractors=[["east", "southwest"], ["southwest", "north"], ["east"], ["north"]],
    )
    scores = evaluate(load_phrases(file), point)
    # Right; wrong; all at cosine 0, which is wrong; a distractor as near as the answer, which is wrong.
    assert scores.counts["right"] == 1
    assert scores.value == 0.25
    assert count_right_choices(point(["north"]), point(["north"]), [1]) == 1


def test_paraphrases_by_hand() -> None:
    cosines = np.array([0.9, 0.8, 0.8, 0.1])
    # Two of 0.8 are on one side: above 0.9 alone, 3 of 4 are right.
    assert best_accuracy(cosines, np.array([True, False, True, False])) == 0.75
    assert best_accuracy(cosines, np.array([False, False, False, True])) == 0.75
    assert best_accuracy(cosines, np.array([True, True, True, False])) == 1.0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_best_accuracy_is_that_of_the_best_threshold(pairs: list[tuple[int, bool]]) -> None:
    cosines, labels = np.array([float(c) for c, _ in pairs]), np.array([label for _, label in pairs])
    brute = max(((cosines >= threshold) == labels).mean() for threshold in np.arange(-0.5, 6))
    assert best_accuracy(cosines, labels) == pytest.approx(brute)


def test_phrases_agree_with_scipy_and_scikit_learn(shared_data: Path, potion: StaticEmbeddingModel) -> None:
    bird, ppdb = shared_data / "phrases" / "bird.parquet", shared_data / "phrases" / "ppdb-filtered.parquet"
    rows = read(bird)
    cosines = 1 - paired_cosine_distances(potion.encode(rows.text1), potion.encode(rows.text2))
    found = evaluate(load_phrases(place(bird)), potion.encode)
    assert found.main == "cosine_pearson"
    assert found.value == pytest.approx(stats.pearsonr(cosines, rows.score).statistic, abs=1e-5)
    rows = read(ppdb)
    cosines = 1 - paired_cosine_distances(potion.encode(rows.text1), potion.encode(rows.text2))
    found = evaluate(load_phrases(place(ppdb)), potion.encode)
    assert found.metrics["cosine_ap"] == pytest.approx(average_precision_score(rows.label, cosines), abs=1e-5)
    thresholds = np.quantile(cosines, np.linspace(0, 1, 2000))
    brute = max(((cosines > threshold) == rows.label).mean() for threshold in thresholds)
    assert brute <= found.value + 1e-9 < brute + 0.002


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_cosines_do_not_care_about_lengths(seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.normal(size=(2, 6, 3))
    scaled = paired_cosines(left * random.uniform(0.1, 50, (6, 1)), right)
    np.testing.assert_allclose(scaled, paired_cosines(left, right), atol=2e-9)
    assert (paired_cosines(left, left) == 1.0).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text1": ["a"], "score": [1.0]},
            "task file '{file}' lacks 'text2': got columns 'text1', 'score'; "
            "expected 'text1', 'text2', 'score'",
        ),
        (
            {"text1": ["a", None], "text2": ["a", "b"], "score": [1.0, 2.0]},
            "task file '{file}': column 'text1': got nulls; expected none",
        ),
        (
            {
                "text1": pa.array([], pa.string()),
                "text2": pa.array([], pa.string()),
                "score": pa.array([], "f4"),
            },
            "task file '{file}' holds no row: expected at least one",
        ),
        (
            {"text1": ["a", "b"], "text2": ["a", "b"], "score": [1.0, np.nan]},
            "task file '{file}': column 'score': got NaN or infinity; expected finite numbers",
        ),
        (
            {"text1": ["a"], "text2": ["b"], "score": ["private words"]},
            "task file '{file}': column 'score': got string; expected numbers, or strings of them",
        ),
    ],
    ids=["column", "null", "no row", "no number", "text"],
)
def test_files_that_are_no_task_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(InputError) as caught:
        load_sentences(file)
    assert str(caught.value) == message.format(file=file.path)


def test_file_that_is_no_parquet_is_refused_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("private words")
    with pytest.raises(InputError, match=r"a\.parquet' can't be read: got .*; expected Parquet as described"):
        load_words(place(tmp_path / "a.parquet"))


@pytest.mark.parametrize("kind", ["classification", "clustering", "paraphrases", "retrieval"])
def test_tasks_that_tell_nothing_apart_are_refused(tmp_path: Path, kind: str) -> None:
    one = {"text": ["north", "east"], "label": ["n", "n"]}
    calls = {
        "classification": lambda: (
            write(tmp_path / "t" / "train.parquet", **one),
            write(tmp_path / "t" / "test.parquet", **one),
            load_classification(place(tmp_path / "t")),
        ),
        "clustering": lambda: load_clustering(write(tmp_path / "a.parquet", **one)),
        "paraphrases": lambda: load_phrases(
            write(tmp_path / "a.parquet", text1=["a"], text2=["b"], label=[1])
        ),
        "retrieval": lambda: (
            write(tmp_path / "t" / "corpus.parquet", id=["a"], title=[""], text=["east"]),
            write(tmp_path / "t" / "queries.parquet", id=["1"], text=["north"]),
            write(tmp_path / "t" / "qrels.parquet", query_id=["1"], corpus_id=["a"], score=[0]),
            load_retrieval(place(tmp_path / "t")),
        ),
    }
    with pytest.raises(InputError, match=r"label': got one value only; expected labels|no query with"):
        calls[kind]()


@pytest.mark.parametrize("repeated", ["corpus", "queries"])
def test_ids_that_repeat_are_refused(tmp_path: Path, repeated: str) -> None:
    """A document that is found twice would count twice."""
    twice = {name: 2 if name == repeated else 1 for name in ("corpus", "queries")}
    folder, corpus, queries = tmp_path / "t", twice["corpus"], twice["queries"]
    write(folder / "corpus.parquet", id=["a"] * corpus, title=[""] * corpus, text=["east"] * corpus)
    write(folder / "queries.parquet", id=["1"] * queries, text=["north"] * queries)
    write(folder / "qrels.parquet", query_id=["1"], corpus_id=["a"], score=[1])
    with pytest.raises(InputError, match=f"got ids of {repeated} that repeat; expected one row an id"):
        load_retrieval(place(folder))


@pytest.mark.parametrize(("distractors", "message"), [([], "an empty list"), (["x", None], "nulls")])
def test_choices_that_are_none_are_refused(
    tmp_path: Path, distractors: list[str | None], message: str
) -> None:
    lists = pa.array([["east"], distractors], pa.list_(pa.string()))
    file = write(
        tmp_path / "a.parquet", phrase=["north", "east"], answer=["north", "east"], distractors=lists
    )
    with pytest.raises(InputError, match=f"column 'distractors': got {message}"):
        load_phrases(file)


def test_phrases_of_no_known_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"got columns other; expected text1, text2, score; text1, text2, label"
    ):
        load_phrases(write(tmp_path / "a.parquet", other=["x"]))


def test_tasks_have_the_names_of_mteb(shared_data: Path) -> None:
    names = {task.key: task for task in find_tasks(str(shared_data))}
    for key in ("sts/STS12", "sts/STSBenchmark", "sts/SICK-R", "retrieval/SciFact", "wordsim/men-tr-3k"):
        assert names[key].is_averaged
    for key in ("classification/ImdbClassification", "clustering/TwentyNewsgroupsClustering"):
        assert names[key].note
    left_out = {key for key, task in names.items() if not task.is_averaged}
    assert left_out == {"sts/JSTS", "sts/STSB-dev", "sts/STSBenchmark-dev", "retrieval/XQuADRetrieval-zh"}
    assert sum(task.group.name == "wordsim" for task in names.values()) == 13


def test_only_chooses_groups_and_tasks_by_any_of_their_names(tmp_path: Path) -> None:
    for name in ("sts/sts12", "sts/mine", "wordsim/rg-65"):
        write(tmp_path / f"{name}.parquet", a=["x"])
    (tmp_path / "retrieval" / "scifact").mkdir(parents=True)
    (tmp_path / "sts" / "README.txt").write_text("no task")

    def chosen(*only: str) -> list[str]:
        return [task.key for task in find_tasks(str(tmp_path), only)]

    assert chosen() == ["wordsim/rg-65", "sts/mine", "sts/STS12", "retrieval/SciFact"]
    assert chosen("STS") == ["sts/mine", "sts/STS12"]
    assert chosen("scifact", "sts/sts12", "RG-65") == ["wordsim/rg-65", "sts/STS12", "retrieval/SciFact"]
    with pytest.raises(SettingsError) as caught:
        chosen("scifacts")
    assert str(caught.value) == (
        "only: no task 'scifacts' in the data folder: expected one of wordsim, sts, retrieval, rg-65, mine, "
        "STS12, SciFact; did you mean 'SciFact'?"
    )


def test_folders_without_tasks_are_refused(tmp_path: Path) -> None:
    groups = "wordsim, sts, classification, clustering, retrieval, phrases"
    with pytest.raises(InputError) as caught:
        find_tasks(str(tmp_path / "gone"))
    assert str(caught.value) == f"data folder '{tmp_path}/gone' does not exist: expected a folder of {groups}"
    with pytest.raises(InputError) as caught:
        find_tasks(str(tmp_path))
    assert str(caught.value) == f"data folder '{tmp_path}' holds no task: expected folders {groups}"
    (tmp_path / "retrieval").mkdir()
    with pytest.raises(InputError) as caught:
        find_tasks(str(tmp_path))
    assert str(caught.value) == f"'{tmp_path}/retrieval' holds no task: expected a folder for each task"


def test_every_distinct_text_is_embedded_once() -> None:
    model = Counting()
    vectors = encode_distinct(model, ["north", "east", "north"], None)
    assert model.asked == [["north", "east"]]
    assert (vectors == point(["north", "east", "north"])).all()


def test_cache_keeps_vectors_by_model_and_texts(tmp_path: Path) -> None:
    cache, model = VectorCache(tmp_path / "cache"), Counting()
    texts = ["north", "east"]
    for _ in range(2):
        assert (cache.encode(model, texts) == point(texts)).all()
    assert len(model.asked) == 1
    cache.encode(model, ["nor", "theast"])
    model.fingerprint = "sha256:1"
    cache.encode(model, texts)
    assert len(model.asked) == 3
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[:-3])
    assert (cache.encode(model, texts) == point(texts)).all()
    assert len(model.asked) == 4


def test_speed_is_measured_on_the_same_texts_until_time_is_over() -> None:
    model = Counting()
    speed = measure_speed(model, ["north"] * 2500, limit_s=60)
    assert [len(texts) for texts in model.asked] == [1, 1000, 1000, 500]
    assert (speed.texts, speed.characters) == (2500, 5.0)
    assert measure_speed(Counting(), ["north"] * 2500, limit_s=1e-12).texts == 1000


def test_speed_texts_are_those_of_a_file_or_of_the_tasks(tmp_path: Path) -> None:
    write(tmp_path / "sts" / "a.parquet", text1=["a", "b"], text2=["b", "c"], score=[1.0, 2.0])
    write(tmp_path / "sts" / "b.parquet", text1=["a", "d"], text2=["b", "c"], score=[1.0, 2.0])
    tasks = find_tasks(str(tmp_path))
    assert choose_speed_texts(str(tmp_path), tasks, most=10) == ["a", "b", "c", "d"]
    assert choose_speed_texts(str(tmp_path), tasks, most=3) == ["a", "b", "c"]
    write(tmp_path / "texts" / "general-en.parquet", text=["v", "w", "v", "x", "y", "z"])
    assert choose_speed_texts(str(tmp_path), tasks, most=3) == ["v", "x", "z"]


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(Counting):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.full((len(texts), 2), np.nan, np.float32)

    write(tmp_path / "sts" / "a.parquet", text1=["a", "b"], text2=["b", "c"], score=[1.0, 2.0])
    with pytest.raises(DataError, match="model 'counting' returned vectors that are NaN or infinite"):
        run_task(Broken(), *find_tasks(str(tmp_path)))


def test_averages_leave_out_development_rows_and_other_languages(tmp_path: Path) -> None:
    for name in ("sts12", "stsb-dev", "zh-stsb-dev", "mine"):
        write(tmp_path / "sts" / f"{name}.parquet", a=["x"])
    values = {"STS12": 0.5, "mine": 0.7, "STSBenchmark-dev": 0.0, "STSB-dev": 0.0}
    results = [
        TaskResult(task, TaskScores("m", {"m": values[task.name]}, {}), 0.0, 0.0)
        for task in find_tasks(str(tmp_path))
    ]
    assert average_groups(results) == {"sts": pytest.approx(0.6)}


def test_record_is_rounded_and_has_no_minus_zero() -> None:
    assert str(rounded({"a": [-1e-9, 0.12345678], "b": 3})) == "{'a': [0.0, 0.123457], 'b': 3}"


def test_sample_is_of_the_texts_and_not_of_their_files(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(500)]
    write(tmp_path / "one" / "a.parquet", body=texts)
    write(tmp_path / "two" / "a.parquet", body=[None, " ", "", *texts[:200:-1]])
    write(tmp_path / "two" / "b.parquet", body=[*texts[:300], *texts[:50]])
    found = sample_texts(str(tmp_path / "one"), "body", rows=20)
    assert found == sample_texts(str(tmp_path / "two"), "body", rows=20)
    assert len(set(found)) == 20
    more = sample_texts(str(tmp_path / "one" / "a.parquet"), "body", rows=30)
    assert more[:20] == found
    assert sorted(sample_texts(str(tmp_path / "two"), "body", rows=5000)) == sorted(texts)


def test_samples_that_can_not_be_taken_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", body=["x", "x", ""], number=[1, 2, 3])
    for column, message in (
        ("bodi", "has no column 'bodi': expected one of 'body', 'number'; did you mean 'body'?"),
        ("number", "column 'number': got int64; expected strings"),
        ("body", "column 'body': got 1 distinct texts; expected at least 20"),
    ):
        with pytest.raises(InputError) as caught:
            sample_texts(str(tmp_path / "a.parquet"), column, rows=5)
        assert str(caught.value).endswith(message)
    with pytest.raises(InputError, match="gone' can't be read"):
        sample_texts(str(tmp_path / "gone"), "body", rows=5)


def test_table_is_a_model(tiny_table: StaticTable) -> None:
    model = StaticEmbeddingModel("tiny", tiny_table)
    assert (model.dimensions, model.parameters, model.size_bytes) == (2, 8, 32)
    assert model.fingerprint == tiny_table.fingerprint
    assert model.encode(["north", "north east", "?"]).tolist() == [[0, 1], [0.5, 0.5], [0, 0]]


def encode_lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_scores_written_as_text_are_numbers(tmp_path: Path) -> None:
    columns = {"text1": ["a", "bb", "ccc"], "text2": ["a", "b", "c"]}
    for name, scores in (("numbers", [10.0, 9.0, 1.0]), ("texts", ["10", "9", "1"])):
        pq.write_table(pa.table({**columns, "score": scores}), tmp_path / f"{name}.parquet")
    files = [place(tmp_path / f"{name}.parquet") for name in ("numbers", "texts")]
    found = [evaluate(load_sentences(file), encode_lengths) for file in files]
    assert found[0] == found[1]
    assert found[0].metrics["cosine_spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize("load_pairs", [load_sentences, load_phrases])
def test_scores_that_do_not_differ_are_refused(tmp_path: Path, load_pairs: Any) -> None:
    columns = {"text1": ["a", "b"], "text2": ["a", "b"], "score": [3, 3]}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(InputError, match="column 'score': got one value only; expected scores that differ"):
        load_pairs(place(tmp_path / "s.parquet"))


def test_labels_that_training_lacks_are_refused(tmp_path: Path) -> None:
    for part, labels in (("train", ["1", "2"]), ("test", ["1", "2.0"])):
        pq.write_table(pa.table({"text": ["a", "bb"], "label": labels}), tmp_path / f"{part}.parquet")
    with pytest.raises(InputError, match="column 'label': got 1 labels in test that train lacks"):
        load_classification(place(tmp_path))


def test_judgements_of_no_document_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["d"], "title": ["t"], "text": ["x"]}), tmp_path / "corpus.parquet")
    pq.write_table(pa.table({"id": ["q"], "text": ["x"]}), tmp_path / "queries.parquet")
    judged = {"query_id": ["q"], "corpus_id": ["other"], "score": [1]}
    pq.write_table(pa.table(judged), tmp_path / "qrels.parquet")
    with pytest.raises(InputError, match="column 'corpus_id': got no id of the corpus"):
        load_retrieval(place(tmp_path))
