"""How long a new Python worker takes until it embeds: imports, table, machine code, first texts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import lakevec
from lakevec.jobs.benchmarks.timing import Comparison

if TYPE_CHECKING:
    from lakevec.jobs.benchmarks.bench import Bench

AT_HAND, OF_ANOTHER, COMPILED = "machine code at hand", "of another processor", "nothing compiled"
_BASIC_PROCESSOR = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


def measure_worker(bench: Bench) -> Iterator[Comparison]:
    """Start workers that find this processor's machine code, another one's, and none."""
    seconds = _measure(bench.settings.model)
    told = ", ".join(f"{value:.1f} s ({state})" for state, value in seconds.items())
    note = f"A new worker embeds its first text {told} after its first import."
    yield Comparison("a new worker", [], "", [note], {"seconds": seconds})


def _measure(model: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="lakevec-") as cache:
        env = {**os.environ, "NUMBA_CACHE_DIR": cache, "TOKENIZERS_PARALLELISM": "false"}
        with tempfile.TemporaryDirectory(prefix="lakevec-") as other:
            _start_worker(model, {**env, **_BASIC_PROCESSOR, "NUMBA_CACHE_DIR": other})
            of_another = _start_worker(model, {**env, "NUMBA_CACHE_DIR": other})
        compiled = _start_worker(model, env)
        return {AT_HAND: _start_worker(model, env), OF_ANOTHER: of_another, COMPILED: compiled}


def _start_worker(model: str, env: dict[str, str]) -> float:
    argv = [sys.executable, "-m", __name__, model]
    root = Path(lakevec.__file__).parents[1]
    done = subprocess.run(  # noqa: S603  (this very module)
        argv, cwd=root, env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def main(model: str) -> None:
    """Be such a worker, and print its seconds.

    Parameters
    ----------
    model : str
    """
    started = time.perf_counter()
    from lakevec.pipeline.encoding.encoder import warm_up
    from lakevec.pipeline.model.artifact import load

    warm_up(load(model).table)
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1])
