"""What a keyed run costs when little has changed, beside embedding everything."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.jobs import embed
from lakevec.jobs.benchmarks import spark as ways_on_spark
from lakevec.jobs.benchmarks.bench import Bench
from lakevec.jobs.benchmarks.timing import Comparison, take_turns
from lakevec.jobs.cli import RunContext
from lakevec.pipeline.settings.embed import EmbedSettings

_KEY = "benchmark_key"
_EVERYTHING = "everything, without a key"


class _Way:
    """A run over a lake of which a share has changed since the output was written."""

    def __init__(self, bench: Bench, *, key: bool, share: float | None, in_one_file: bool = False) -> None:
        self._bench = bench
        self._key = key
        self._share = share
        self._lake = bench.folder / f"keyed-{share}-{in_one_file}"
        self._before = bench.folder / "keyed-before"
        self._output = bench.folder / "keyed-output"
        if not self._lake.exists():
            _write_lake(bench, self._lake, share or 0.0, in_one_file=in_one_file)

    def prepare(self) -> None:
        """Put the output back as it was before anything changed."""
        shutil.rmtree(self._output, ignore_errors=True)
        if self._share is None:
            return
        if not self._before.exists():
            self._embed(self._bench.folder / "keyed-None-False", self._before)
        shutil.copytree(self._before, self._output, copy_function=os.link)

    def __call__(self) -> int:
        """Run the job; return the rows of the lake, of which most may need nothing."""
        self._embed(self._lake, self._output)
        return self._bench.settings.rows

    def _embed(self, lake: Path, output: Path) -> None:
        settings = EmbedSettings(
            model=self._bench.settings.model,
            input=[str(lake)],
            text=[self._bench.settings.text],
            output=str(output),
            key=_KEY if self._key else None,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            embed.run(settings, RunContext())


def measure_changes(bench: Bench) -> Iterator[Comparison]:
    """Run the job with a key over lakes of which more and more has changed."""
    settings = bench.settings
    ways: dict[str, Callable[[], int]] = {
        _EVERYTHING: _Way(bench, key=False, share=None),
        "everything, with a key": _Way(bench, key=True, share=None),
        "nothing changed": _Way(bench, key=True, share=0.0),
        "0.1 % changed, anywhere": _Way(bench, key=True, share=0.001),
        "1 % changed, anywhere": _Way(bench, key=True, share=0.01),
        "1 % changed, side by side": _Way(bench, key=True, share=0.01, in_one_file=True),
        "10 % changed, anywhere": _Way(bench, key=True, share=0.1),
    }
    with ways_on_spark.quiet_session(settings, master=settings.master, verbose=bench.verbose):
        rates = take_turns(ways, settings.repeats)
    seconds = {rate.way: rate.rows / rate.rows_per_s for rate in rates}
    told = ", ".join(f"{way} {spent:.1f} s" for way, spent in seconds.items())
    notes = [f"Rows are those of the lake, whether they changed or not; in seconds: {told}."]
    for folder in bench.folder.glob("keyed-*"):
        shutil.rmtree(folder)
    yield Comparison("rows that changed", rates, _EVERYTHING, notes, {"seconds": seconds})


def _write_lake(bench: Bench, folder: Path, share: float, *, in_one_file: bool) -> None:
    """Write the rows with a key, and with a word more in the texts that changed."""
    rows, text = bench.settings.rows, bench.settings.text
    changed = np.zeros(rows, dtype=bool)
    if in_one_file:
        changed[: int(rows * share)] = True
    else:
        changed[np.random.default_rng(2).permutation(rows)[: int(rows * share)]] = True
    folder.mkdir()
    start = 0
    for file in sorted(bench.lake.glob("*.parquet")):
        table = pq.read_table(file)
        here = pa.array(changed[start : start + table.num_rows])
        texts = table[text].combine_chunks()
        longer = pc.binary_join_element_wise(texts, pa.scalar("edited", texts.type), " ")
        table = table.set_column(table.schema.get_field_index(text), text, pc.if_else(here, longer, texts))
        keys = pa.array(np.arange(start, start + table.num_rows))
        pq.write_table(table.append_column(_KEY, keys), folder / file.name, compression="snappy")
        start += table.num_rows
