"""Parts without Spark: a new worker, kernel and vector writer beside peers, long texts, distillation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

import lakevec
from lakevec.jobs.benchmarks import corpus, peers, timing
from lakevec.jobs.benchmarks.corpus import Workload
from lakevec.jobs.benchmarks.timing import Comparison, Prepared, Rate
from lakevec.jobs.demo import embedded_teacher
from lakevec.pipeline.corpus.tokenizer_source import find_tokenizer
from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.encoding.encoder import Encoder, list_array, warm_up
from lakevec.pipeline.errors import OutputError, requires_extra
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.bigrams import quantize_bigrams
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.settings.benchmark import BenchmarkSettings
from lakevec.pipeline.storage import locate
from lakevec.udfs.worker_cache import worker_memory

_MODEL2VEC, _LAKEVEC = "model2vec encode", "lakevec"
_LENGTHS = (20, 100, 500, 2000)
_WIDTHS = (64, 128, 256, 512, 1024)
_VOCABULARIES = (1_000, 4_000, 16_000, 64_000)
# Enough for a steady rate. model2vec takes seconds for them.
_FEW_ROWS = 50_000
_VECTORS = 65_536
_EXTREMES = (("one text of 100 MB", 10**8, False), ("one word of 10 MB", 10**7, True))
_PHRASES = 500
_WITH_PHRASES = "lakevec, with mined phrases"
_BIGRAMS = 100_000
_POSITION_SCALE = 75.0
_WITH_BIGRAMS = "lakevec, with bigrams"
_WITH_POSITIONS = "lakevec, with position weights"
_WITH_BOTH = "lakevec, with both"
_PLAIN_WRITE = "plain write of the same bytes"
_UNKNOWN = "[UNK]"
_BASIC_PROCESSOR = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
_WORKER = """
import sys, time
started = time.perf_counter()
from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.model.artifact import load
warm_up(load(sys.argv[1]).table)
print(time.perf_counter() - started)
"""


def measure_worker(workload: Workload) -> Iterator[Comparison]:
    """Time new workers that find machine code for this processor, for another one, or none."""
    start = partial(_start_worker, workload.settings.model)
    with tempfile.TemporaryDirectory(prefix="lakevec-") as cache, tempfile.TemporaryDirectory() as other:
        start(other, **_BASIC_PROCESSOR)
        seconds = {"of another processor": start(other), "nothing compiled": start(cache)}
        seconds = {"machine code at hand": start(cache), **seconds}
    shown = ", ".join(f"{value:.1f} s ({state})" for state, value in seconds.items())
    note = f"A new worker embeds its first text {shown} after its first import."
    yield Comparison("a new worker", [], "", [note], {"seconds": seconds})


def measure_kernel(workload: Workload) -> Iterator[Comparison]:
    """Encode the texts in one process, each run with an empty token cache."""
    texts = workload.peer_texts
    embed = peers.load_static_embedding(workload.settings.model)
    tokenize = peers.load_tokenizer(workload.table)
    ways = {
        **_kernel_ways(workload.table, workload.texts, texts),
        "StaticEmbedding encode": partial(peers.encode_batches, embed, texts),
        "tokenizers alone, no vectors": partial(peers.encode_batches, tokenize, texts, 1024),
    }
    rates = timing.take_turns(ways, workload.settings.repeats)
    yield Comparison("texts to vectors, one process, token cache empty", rates, _MODEL2VEC)


def measure_texts(workload: Workload) -> Iterator[Comparison]:
    """Encode texts in which every word is new, and the texts of ``--also``."""
    kinds = {"every word new": corpus.texts_of_new_words(min(_FEW_ROWS, workload.settings.peer_rows))}
    for name, place in workload.settings.also.items():
        kinds[name] = corpus.read_kind(place, "text", workload.settings.peer_rows)
    for name, texts in kinds.items():
        yield _compare(workload, name, workload.table, texts)


def measure_tokenizers(workload: Workload) -> Iterator[Comparison]:
    """Encode the texts of ``--also`` with random tables on the tokenizers of ``--tokenizers``."""
    settings = workload.settings
    texts = {
        name: corpus.read_kind(place, "text", settings.peer_rows) for name, place in settings.also.items()
    }
    for family, file in settings.tokenizers.items():
        table = _random_table(find_tokenizer(file).json, workload.table.dimensions)
        for name, kind in texts.items():
            yield _compare(workload, f"{name}, {family}", table, kind)


def measure_phrases(workload: Workload) -> Iterator[Comparison]:
    """Encode with the phrases that `lakevec mine` finds in these texts as tokens, and without."""
    table, texts = workload.table, workload.texts
    phrases = corpus.mine_phrases(workload.peer_texts, table.tokenizer_json, _PHRASES)
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    tokenizer.add_tokens([AddedToken(phrase, single_word=True, normalized=True) for phrase in phrases])
    longer = _random_table(tokenizer.to_str(), table.dimensions)
    warm_up(longer)  # phrases compile another loop
    ways = {
        way: Prepared(partial(Encoder, kind), partial(_encode, texts=texts))
        for way, kind in {_LAKEVEC: table, _WITH_PHRASES: longer}.items()
    }
    rates = timing.take_turns(ways, workload.settings.repeats)
    note = f"The phrases are {len(phrases)}, among them {', '.join(map(repr, phrases[:3]))}."
    yield Comparison("phrases", rates, _LAKEVEC, [note])


def measure_bigrams(workload: Workload) -> Iterator[Comparison]:
    """Encode with random rows for the texts' bigrams, with position weights, and with neither."""
    table, texts = workload.table, workload.texts
    table = replace(table, bigrams=None, position_scale=None)
    pairs = corpus.find_bigrams(texts, table.tokenizer_json, _BIGRAMS)
    bigrams = quantize_bigrams(pairs, _random_rows(len(pairs), table.dimensions))
    tables = {
        _LAKEVEC: table,
        _WITH_BIGRAMS: replace(table, bigrams=bigrams),
        _WITH_POSITIONS: replace(table, position_scale=_POSITION_SCALE),
        _WITH_BOTH: replace(table, bigrams=bigrams, position_scale=_POSITION_SCALE),
    }
    for kind in tables.values():
        warm_up(kind)
    ways = {
        way: Prepared(partial(Encoder, kind), partial(_encode, texts=texts)) for way, kind in tables.items()
    }
    rates = timing.take_turns(ways, workload.settings.repeats)
    yield Comparison("bigrams and position weights", rates, _LAKEVEC, [f"There are {len(pairs):,} bigrams."])


def measure_lengths(workload: Workload) -> Iterator[Comparison]:
    """Encode the same words in texts of several lengths."""
    for length in _LENGTHS:
        texts = corpus.texts_of_length(_few_texts(workload), length)
        yield _compare(workload, f"{length} characters", workload.table, texts)


def measure_dimensions(workload: Workload) -> Iterator[Comparison]:
    """Encode with tables of several widths and the same tokenizer."""
    table = workload.table
    for width in _WIDTHS:
        rows = _random_rows(table.rows, width)
        other = StaticTable(rows, table.tokenizer_json, normalize=table.normalize)
        yield _compare(workload, f"{width} dimensions", other, _few_texts(workload))


def measure_vocabulary(workload: Workload) -> Iterator[Comparison]:
    """Encode with vocabularies of several sizes, trained on the texts."""
    for size in _VOCABULARIES:
        tokenizer = _train_word_piece(_few_texts(workload), size)
        rows = _random_rows(tokenizer.get_vocab_size(), workload.table.dimensions)
        table = StaticTable(rows, tokenizer.to_str())
        yield _compare(workload, f"{len(rows):,} tokens", table, _few_texts(workload))


def measure_vectors(workload: Workload) -> Iterator[Comparison]:
    """Write a column of vectors, beside pyarrow's list column and a plain write of the same bytes."""
    vectors = _random_rows(_VECTORS, workload.table.dimensions)
    batch = pa.RecordBatch.from_pydict({"vector": list_array(vectors, np.zeros(_VECTORS, dtype=bool))})
    with tempfile.TemporaryDirectory(dir=workload.folder) as parent:
        ways = {
            way: Prepared(partial(_empty_folder, Path(parent) / "vectors"), write)
            for way, write in {
                _PLAIN_WRITE: partial(_write_plainly, vectors),
                "pyarrow's list column": partial(_write_with_pyarrow, batch),
                _LAKEVEC: partial(_write_as_task, batch),
            }.items()
        }
        rates = timing.take_turns(ways, workload.settings.repeats)
    yield Comparison("vectors to one Parquet column", rates, _PLAIN_WRITE)


def measure_extremes(workload: Workload) -> Iterator[Comparison]:
    """Encode one text of 100 MB and one word of 10 MB, each run in a new process."""
    settings, cpus = workload.settings, os.sched_getaffinity(0)
    for name, size, is_word in _EXTREMES:
        runs = [
            timing.in_new_process(cpus, time_extreme, settings, workload.peers_lake, size, is_word=is_word)
            for _ in range(settings.repeats)
        ]
        rate = Rate(_LAKEVEC, 1, tuple(1 / seconds for seconds, _, _ in runs))
        before, peak = max(run[1] for run in runs), max(run[2] for run in runs)
        note = (
            f"{rate.seconds:.2f} s. The process peaked at {before / 1e6:,.0f} MB before it embedded the text,"
        )
        note += f" and at {peak / 1e6:,.0f} MB in all."
        facts = {"seconds": rate.seconds, "peak_bytes": peak, "bytes_before": before}
        yield Comparison(name, [rate], _LAKEVEC, [note], facts)


def time_extreme(
    settings: BenchmarkSettings, lake: Path, size: int, *, is_word: bool
) -> tuple[float, int, int]:
    """Embed one long text.

    Parameters
    ----------
    settings : BenchmarkSettings
    lake : Path
        Rows whose texts are joined, repeatedly if needed.
    size : int
        Characters of the text.
    is_word : bool
        Embed one word of random letters instead.

    Returns
    -------
    seconds : float
    before, peak : int
        Peak of resident memory in bytes, before and after embedding; both include the text.
    """
    encoder = Encoder(load(settings.model).table)
    encoder.encode(pa.array(["warm up"]))
    if is_word:
        whole = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, size, np.uint8).tobytes().decode()
    else:
        joined = " ".join(corpus.read_texts(lake, settings.text, settings.peer_rows).to_pylist())
        whole = (joined * (size // len(joined) + 1))[:size]
    texts = pa.array([whole], pa.large_string())
    before = int(worker_memory()["peak_bytes"])
    started = time.perf_counter()
    encoder.encode(texts)
    return time.perf_counter() - started, before, int(worker_memory()["peak_bytes"])


def measure_distill(workload: Workload) -> Iterator[Comparison]:
    """Distil the same teacher to the same width on the CPU. Each token counts as a row."""
    with requires_extra("benchmark", "the comparison"):
        from model2vec.distill import distill as distill_with_model2vec

        from lakevec.pipeline.distillation.recipe import distill
    teacher = workload.settings.teacher or embedded_teacher()[0]
    options = DistillOptions(device="cpu")

    def model2vec() -> int:
        same = {"pca_dims": options.dimensions, "device": options.device}
        return len(distill_with_model2vec(teacher, **same, quantize_to="float32").embedding)

    def ours() -> int:
        return distill(teacher, options, progress=False).table.rows

    ways = {"model2vec distill": model2vec, "lakevec distill": ours}
    rates = timing.take_turns(ways, workload.settings.repeats)
    note = f"Median: {', '.join(f'{rate.way} {rate.seconds:.1f} s' for rate in rates)}."
    yield Comparison("distillation, one row per token", rates, "model2vec distill", [note])


def _kernel_ways(
    table: StaticTable, texts: pa.Array, peer_texts: pa.Array
) -> dict[str, Callable[[], int] | Prepared]:
    """Return model2vec's way and lakevec's, which starts every run with an empty token cache."""
    return {
        _MODEL2VEC: partial(peers.encode_batches, peers.load_model2vec(table), peer_texts),
        _LAKEVEC: Prepared(partial(Encoder, table), partial(_encode, texts=texts)),
    }


def _encode(encoder: Encoder, *, texts: pa.Array) -> int:
    """Encode texts in batches of the job's size; return their number."""
    for start in range(0, len(texts), peers.BATCH_ROWS):
        encoder.encode(texts.slice(start, peers.BATCH_ROWS))
    return len(texts)


def _empty_folder(folder: Path) -> Path:
    """Remove the file of the run before, which is not part of the next."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _write_plainly(vectors: np.ndarray, folder: Path) -> int:
    (folder / "vectors").write_bytes(vectors.data)
    return _VECTORS


def _write_with_pyarrow(batch: pa.RecordBatch, folder: Path) -> int:
    """Write a list column with the options that suit vectors best."""
    table = pa.Table.from_batches([batch])
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, folder / "vectors.parquet", **plain)
    return _VECTORS


def _write_as_task(batch: pa.RecordBatch, folder: Path) -> int:
    layout = FileLayout(embedding_columns=("vector",), compression="zstd", metadata={})
    with TaskParquetWriter(locate(str(folder), error=OutputError), "vectors", layout) as files:
        files.write(batch, {})
        files.close()
    return _VECTORS


def _compare(workload: Workload, title: str, table: StaticTable, texts: pa.Array) -> Comparison:
    warm_up(table)  # tokenizers of another family compile another loop
    rates = timing.take_turns(_kernel_ways(table, texts, texts), workload.settings.repeats)
    return Comparison(title, rates, _MODEL2VEC)


def _few_texts(workload: Workload) -> pa.Array:
    return workload.peer_texts.slice(0, _FEW_ROWS)


def _random_rows(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32)


def _random_table(tokenizer_json: str, width: int) -> StaticTable:
    """Make a table of random rows on a tokenizer."""
    rows = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    return StaticTable(_random_rows(rows, width), tokenizer_json)


def _train_word_piece(texts: pa.Array, size: int) -> Tokenizer:
    """Train a tokenizer like BERT's with at most `size` tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=[_UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(texts.to_pylist(), trainer)
    return tokenizer


def _start_worker(model: str, cache: str, **env: str) -> float:
    """Return the seconds of a new process from its first import to its first vectors."""
    command = [sys.executable, "-c", _WORKER, model]
    env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "NUMBA_CACHE_DIR": cache, **env}
    root = Path(lakevec.__file__).parents[1]
    return float(subprocess.check_output(command, cwd=root, env=env))  # noqa: S603  (our own command)
