"""Ablations: distillations that omit a step of the recipe and so measure its value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakevec import __version__
from lakevec.pipeline.distillation.inference import resolve_precision
from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.distillation.recipe import distill
from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.distillation.weighting import read_counts
from lakevec.pipeline.local_files import file_sha256
from lakevec.pipeline.model.artifact import MANIFEST_NAME, load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable

_TEACHER_FILES = ("*.json", "*.txt", "*.model", "*/*.safetensors")


_NO_PCA, _NO_WEIGHTS = {"dimensions": "none"}, {"weighting": "none"}
# For each name in the report, the options that differ.
ABLATIONS: dict[str, dict[str, Any]] = {
    "output, PCA, SIF": {},
    "no PCA": _NO_PCA,
    "no SIF": _NO_WEIGHTS,
    "neither": {**_NO_PCA, **_NO_WEIGHTS},
    "input embeddings": {"mode": "input"},
}
COUNTED_ABLATIONS: dict[str, dict[str, Any]] = {
    "output, PCA, SIF, counted": {},
    "no PCA": _NO_PCA,
    "no SIF": _NO_WEIGHTS,
    "neither": {**_NO_PCA, **_NO_WEIGHTS, "counts": None},
    "input embeddings": {"mode": "input"},
    "no whitening": {"whitening": 0.0},
    "counted weights alone": {"axes": "tokens", "whitening": 0.0},
    "ranks for counts": {"counts": None, "axes": "texts", "whitening": 0.5},
}
PLAIN = "not a Sentence Transformer"


def distill_ablations(
    teacher: str, plain_teacher: str | None, *, counts: str | None, device: str, cache: Path | None
) -> Iterator[tuple[str, StaticTable]]:
    """Distil the ablations one by one, and yield each name and table.

    Parameters
    ----------
    teacher : str
        Folder or hub id of a Sentence Transformer.
    plain_teacher : str or None
        Folder or hub id of a plain transformer, to distil with mean pooling.
    counts : str or None
        URI of the counts of the teacher's tokens, for the recipe with counts.
    cache : pathlib.Path or None
        Local folder that keeps the tables for later runs. Tables with counts are not cached, since counts
        may change.
    """
    options = DistillOptions(device=device, counts=None if counts is None else read_counts(counts))
    for name, changes in (COUNTED_ABLATIONS if counts else ABLATIONS).items():
        yield name, _distill(teacher, replace(options, **changes), cache)
    if plain_teacher is not None:
        yield PLAIN, _distill(plain_teacher, replace(options, pooling="mean", counts=None), cache)


def _distill(teacher: str, options: DistillOptions, cache: Path | None) -> StaticTable:
    loaded = load_teacher(teacher, options)
    width = loaded.model.config.hidden_size
    if options.dimensions == DistillOptions.dimensions and width < DistillOptions.dimensions:
        options = replace(options, dimensions="auto")
    if cache is None or options.counts is not None:
        return distill(teacher, options).table
    precision = resolve_precision(loaded.model, options.precision)
    any_device = replace(options, device="auto")
    digest = _digest_teacher(Path(teacher).expanduser(), loaded.revision)
    key = f"{digest} {any_device} {precision} {__version__}"
    folder = cache / f"table-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    if not (folder / MANIFEST_NAME).is_file():
        distilled = distill(teacher, options)
        publish(distilled.table, str(folder), provenance=distilled.provenance, quality=distilled.quality)
        return distilled.table
    return load(str(folder)).table


def _digest_teacher(folder: Path, revision: str) -> str:
    """Return a digest of a teacher's configuration and weights, including Dense layers."""
    digest = hashlib.sha256(revision.encode())
    patterns = _TEACHER_FILES if folder.is_dir() else ()
    for file in sorted(file for pattern in patterns for file in folder.rglob(pattern)):
        digest.update(f"{file.relative_to(folder).as_posix()} {file_sha256(file)} ".encode())
    return digest.hexdigest()
