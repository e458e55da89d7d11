"""Every command as a function of its words: ``embed(["--model", ...]) -> exit code``."""

from __future__ import annotations

from functools import partial

from lakevec.jobs.cli import run_command

benchmark = partial(run_command, "benchmark")
convert = partial(run_command, "convert")
count = partial(run_command, "count")
distill = partial(run_command, "distill")
doctor = partial(run_command, "doctor")
embed = partial(run_command, "embed")
evaluate = partial(run_command, "evaluate")
export = partial(run_command, "export")
inspect = partial(run_command, "inspect")
mine = partial(run_command, "mine")
search = partial(run_command, "search")
train_head = partial(run_command, "train-head")
tune = partial(run_command, "tune")
verify = partial(run_command, "verify")
