"""Tables distilled without a step of the recipe, to see what it is worth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lakevec import __version__
from lakevec.pipeline.errors import requires_extra
from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel
from lakevec.pipeline.model.artifact import MANIFEST_NAME, load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.settings.distill import DistillSettings

_DIMENSIONS: int = DistillSettings.model_fields["dimensions"].default


@dataclass(frozen=True)
class Ablation:
    """A distillation that leaves something out.

    Parameters
    ----------
    name : str
        What the report calls it.
    changes : dict
        Settings of `DistillSettings` that differ from the defaults.
    """

    name: str
    changes: dict[str, object]


ABLATIONS = (
    Ablation("output, PCA, SIF", {}),
    Ablation("no PCA", {"dimensions": "none"}),
    Ablation("no SIF", {"weighting": "none"}),
    Ablation("neither", {"dimensions": "none", "weighting": "none"}),
    Ablation("input embeddings", {"mode": "input"}),
)
COUNTED_ABLATIONS = (
    Ablation("output, PCA, SIF, counted", {}),
    Ablation("no PCA", {"dimensions": "none"}),
    Ablation("no SIF", {"weighting": "none"}),
    Ablation("neither", {"dimensions": "none", "weighting": "none", "counts": None}),
    Ablation("input embeddings", {"mode": "input"}),
    Ablation("no whitening", {"whitening": 0}),
    Ablation("counted weights alone", {"axes": "tokens", "whitening": 0}),
    Ablation("ranks for counts", {"counts": None, "axes": "texts", "whitening": 0.5}),
)
PLAIN = Ablation("not a Sentence Transformer", {"pooling": "mean"})


def distil_ablations(
    teacher: str, plain_teacher: str | None, *, counts: str | None, device: str, cache: Path | None
) -> Iterator[StaticEmbeddingModel]:
    """Distil the tables that leave something out, one after the other.

    Parameters
    ----------
    teacher : str
        A Sentence Transformer (folder or hf://organisation/name).
    plain_teacher : str or None
        A plain transformer, distilled with mean pooling.
    counts : str or None
        Of the teacher's tokens, for the recipe with counts.
    device : str
        torch device.
    cache : Path or None
        Local folder where tables of earlier runs lie, and these are put; but for those with counts, which may
        be others tomorrow.

    Yields
    ------
    StaticEmbeddingModel

    Raises
    ------
    SetupError
        If torch or another package of the extra ``distill`` is missing.
    TeacherError
        If a teacher can't be loaded.
    InputError
        If the counts can't be used.
    """
    wanted = [(teacher, ablation) for ablation in (COUNTED_ABLATIONS if counts else ABLATIONS)]
    if plain_teacher is not None:
        wanted.append((plain_teacher, replace(PLAIN, changes={**PLAIN.changes, "counts": None})))
    for source, ablation in wanted:
        yield _distil(
            source, replace(ablation, changes={"counts": counts, **ablation.changes}), device, cache
        )


def _distil(teacher: str, ablation: Ablation, device: str, cache: Path | None) -> StaticEmbeddingModel:
    with requires_extra("distill", "distilling"):
        from lakevec.pipeline.distillation import recipe
        from lakevec.pipeline.distillation.inference import resolve_precision
        from lakevec.pipeline.distillation.teacher import load_teacher
    loaded = load_teacher(teacher, device=device)
    changes = dict(ablation.changes)
    if loaded.model.config.hidden_size < _DIMENSIONS:
        changes.setdefault("dimensions", "auto")
    values = {"teacher": teacher, "output": "not written", "device": device, **changes}
    settings = DistillSettings.model_validate(values)
    folder = None
    if cache is not None and settings.counts is None:
        precision = resolve_precision(loaded.model, settings.precision)
        asked = json.dumps(settings.model_dump(exclude={"teacher", "device"}), sort_keys=True) + precision
        known = _name_teacher(Path(teacher).expanduser(), loaded.revision)
        key = hashlib.sha256(f"{known} {asked} {__version__}".encode()).hexdigest()
        folder = cache / f"table-{key[:32]}"
        if (folder / MANIFEST_NAME).is_file():
            return StaticEmbeddingModel(ablation.name, load(str(folder)).table)
    distilled = recipe.distill(settings)
    if folder is not None:
        publish(distilled.table, str(folder), provenance=distilled.provenance, quality=distilled.quality)
    return StaticEmbeddingModel(ablation.name, distilled.table)


def _name_teacher(folder: Path, revision: str) -> str:
    """Name a teacher by its weights, its Dense layers' too, and its configuration."""
    digest = hashlib.sha256(revision.encode())
    kinds = ("*.json", "*.txt", "*.model", "*/*.safetensors") if folder.is_dir() else ()
    for file in sorted(file for kind in kinds for file in folder.rglob(kind)):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size} ".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
