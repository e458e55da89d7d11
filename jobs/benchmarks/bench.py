"""What all parts of a benchmark share: its settings, the table, the rows."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from lakevec.jobs.benchmarks.corpus import read_source, read_texts, write_rows
from lakevec.jobs.docstring_lake import write_docstring_lake
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.settings.benchmark import BenchmarkSettings


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark.

    Parameters
    ----------
    settings : BenchmarkSettings
    table : StaticTable
        The model's.
    folder : Path
        Where rows and results lie.
    cpus : tuple of int
        CPUs that this process may use.
    verbose : bool
    """

    settings: BenchmarkSettings
    table: StaticTable
    folder: Path
    cpus: tuple[int, ...]
    verbose: bool

    @cached_property
    def source(self) -> pa.Table:
        """The real rows: the given ones, or else the docstrings of the packages installed here."""
        given = self.settings.input
        place = Path(given) if given else self.folder / "docstrings"
        if not given:
            write_docstring_lake(place)
        return read_source(place, self.settings.text)

    @cached_property
    def lake(self) -> Path:
        """Folder of as many rows as are wanted."""
        return self.lake_of(self.settings.rows)

    @cached_property
    def peers_lake(self) -> Path:
        """Folder of as many rows as peers get."""
        return self.lake_of(min(self.settings.peer_rows, self.settings.rows))

    def lake_of(self, rows: int) -> Path:
        """Return a folder of so many rows, written where there is none yet.

        Parameters
        ----------
        rows : int

        Returns
        -------
        Path
        """
        lake = self.folder / f"lake-{rows}"
        if not lake.exists():
            write_rows(self.source, self.settings.text, rows, lake)
        return lake

    @cached_property
    def texts(self) -> pa.Array:
        """All texts."""
        return read_texts(self.lake, self.settings.text, self.settings.rows)

    @cached_property
    def peer_texts(self) -> pa.Array:
        """The texts that peers get."""
        return self.texts.slice(0, self.settings.peer_rows)

    @cached_property
    def characters(self) -> float:
        """Mean length of a real text."""
        return float(pa.compute.mean(pa.compute.utf8_length(self.source[self.settings.text])).as_py())

    def remove_lakes(self) -> None:
        """Remove the rows, which can be made again; results stay."""
        for lake in (*self.folder.glob("lake-*"), self.folder / "docstrings"):
            shutil.rmtree(lake, ignore_errors=True)


def machine_cpus() -> tuple[int, ...]:
    """Return the CPUs that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))
