"""What is measured in one process: the kernel, and how it stands up to other texts, tables and extremes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from lakevec.jobs.benchmarks.bench import Bench
from lakevec.jobs.benchmarks.corpus import read_kind, read_texts, texts_of_length, texts_of_new_words
from lakevec.jobs.benchmarks.kernel import (
    LAKEVEC,
    MODEL2VEC,
    kernel_ways,
    load_static_embedding,
    run_static_embedding,
    run_tokenizers,
)
from lakevec.jobs.benchmarks.timing import Comparison, Rate, in_new_process, peak_memory_bytes, take_turns
from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.settings.benchmark import BenchmarkSettings

_LENGTHS = (20, 100, 500, 2000)
_WIDTHS = (64, 128, 256, 512, 1024)
_VOCABULARIES = (1_000, 4_000, 16_000, 64_000)
# Enough to be in the steady state; model2vec takes seconds for it.
_FEW_ROWS = 50_000
_UNKNOWN = "[UNK]"


def measure_kernel(bench: Bench) -> Iterator[Comparison]:
    """Texts to vectors: the lake's, each run with an empty memo."""
    peer_texts = bench.peer_texts
    transformer = load_static_embedding(bench.settings.model)
    tokenizer = Tokenizer.from_str(bench.table.tokenizer_json)
    ways: dict[str, Callable[[], int]] = {
        **kernel_ways(bench.table, bench.texts, peer_texts),
        "StaticEmbedding encode": partial(run_static_embedding, transformer, peer_texts),
        "tokenizers alone, no vectors": partial(run_tokenizers, tokenizer, peer_texts),
    }
    yield Comparison(
        "texts to vectors, one process, memo cold", take_turns(ways, bench.settings.repeats), MODEL2VEC
    )


def measure_texts(bench: Bench) -> Iterator[Comparison]:
    """Texts of other kinds: every word new, and those that were named."""
    kinds = {"every word new": texts_of_new_words(_FEW_ROWS)}
    for name, place in bench.settings.also.items():
        kinds[name] = read_kind(place, "text", bench.settings.peer_rows)
    yield from _compare(bench, kinds)


def measure_lengths(bench: Bench) -> Iterator[Comparison]:
    """Cut the same words into texts of other lengths."""
    few = bench.peer_texts.slice(0, _FEW_ROWS)
    yield from _compare(bench, {f"{length} characters": texts_of_length(few, length) for length in _LENGTHS})


def measure_dimensions(bench: Bench) -> Iterator[Comparison]:
    """Give the same tokenizer tables of other widths."""
    few = bench.peer_texts.slice(0, _FEW_ROWS)
    for width in _WIDTHS:
        rows = np.random.default_rng(0).standard_normal((bench.table.rows, width), dtype=np.float32)
        table = StaticTable(rows, bench.table.tokenizer_json, normalize=bench.table.normalize)
        yield _compare_tables(bench, table, f"{width} dimensions", few)


def measure_vocabulary(bench: Bench) -> Iterator[Comparison]:
    """Give the lake vocabularies of other sizes, trained on it."""
    few = bench.peer_texts.slice(0, _FEW_ROWS)
    for size in _VOCABULARIES:
        tokenizer = _train_word_piece(few, size)
        found = tokenizer.get_vocab_size()
        rows = np.random.default_rng(0).standard_normal((found, bench.table.dimensions), dtype=np.float32)
        yield _compare_tables(bench, StaticTable(rows, tokenizer.to_str()), f"{found:,} tokens", few)


def measure_extremes(bench: Bench) -> Iterator[Comparison]:
    """One text of 100 MB, the lake's own words, and one word of 10 MB; each run in a process of its own."""
    for name, size, is_word in (("one text of 100 MB", 10**8, False), ("one word of 10 MB", 10**7, True)):
        runs = [
            in_new_process(bench.cpus, time_extreme, bench.settings, bench.peers_lake, size, is_word=is_word)
            for _ in range(bench.settings.repeats)
        ]
        seconds = statistics.median(run[0] for run in runs)
        before, peak = max(run[1] for run in runs), max(run[2] for run in runs)
        told = f"{seconds:.2f} s; {peak / 1e6:,.0f} MB at the process's peak, {before / 1e6:,.0f} MB before."
        facts = {"seconds": seconds, "peak_bytes": peak, "bytes_before": before}
        rate = Rate(LAKEVEC, 1, tuple(1 / run[0] for run in runs))
        yield Comparison(name, [rate], LAKEVEC, [told], facts)


def time_extreme(
    settings: BenchmarkSettings, lake: Path, size: int, *, is_word: bool
) -> tuple[float, int, int]:
    """Embed one long text.

    Parameters
    ----------
    settings : BenchmarkSettings
    lake : Path
        Rows whose texts make the text, repeated as often as it takes.
    size : int
        Characters of the text.
    is_word : bool
        Whether it is one word of random letters instead.

    Returns
    -------
    seconds : float
    before, peak : int
        Most memory resident before and after, in bytes; the text itself counts in both.
    """
    encoder = Encoder(load(settings.model).table)
    encoder.encode(pa.array(["warm up"]))
    if is_word:
        whole = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, size, np.uint8).tobytes().decode()
    else:
        joined = " ".join(read_texts(lake, settings.text, settings.peer_rows).to_pylist())
        whole = (joined * (size // len(joined) + 1))[:size]
    texts = pa.array([whole], pa.large_string())
    before = peak_memory_bytes()
    started = time.perf_counter()
    encoder.encode(texts)
    return time.perf_counter() - started, before, peak_memory_bytes()


def _compare(bench: Bench, kinds: dict[str, pa.Array]) -> Iterator[Comparison]:
    for name, texts in kinds.items():
        yield _compare_tables(bench, bench.table, name, texts)


def _compare_tables(bench: Bench, table: StaticTable, name: str, texts: pa.Array) -> Comparison:
    warm_up(table)  # another family of tokenizers compiles another loop
    rates = take_turns(kernel_ways(table, texts, texts), bench.settings.repeats)
    return Comparison(name, rates, MODEL2VEC)


def _train_word_piece(texts: pa.Array, size: int) -> Tokenizer:
    """Train a tokenizer as BERT's; small corpora give fewer tokens than are wanted."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=[_UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(texts.to_pylist(), trainer)
    return tokenizer
