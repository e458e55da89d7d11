"""Distillation from top to bottom: teacher, vocabulary, forward passes, PCA, SIF weights, table."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.distillation.reduction import apply_pca
from pipeline.distillation.teacher import encode_token_ids, load_teacher
from pipeline.distillation.vocabulary import build_vocabulary
from pipeline.distillation.weighting import sif_weights_by_rank
from pipeline.model.table import StaticTable, find_unknown_token_id
from pipeline.settings import DistillSettings

_RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn", "skeletoken", "numpy")


@dataclass(frozen=True, eq=False)
class Distilled:
    """A table and what to record about it.

    Parameters
    ----------
    table : StaticTable
    provenance : dict
        Teacher, recipe and package versions.
    quality : dict
        Figures measured while distilling.
    """

    table: StaticTable
    provenance: dict[str, Any]
    quality: dict[str, Any]


def distill(settings: DistillSettings, *, progress: bool = True) -> Distilled:
    """Turn a teacher into an embedding table.

    Parameters
    ----------
    settings : DistillSettings
    progress : bool, default=True
        Whether to draw a progress bar on stderr where that is a terminal.

    Returns
    -------
    Distilled

    Raises
    ------
    TeacherError
        If the teacher can't be loaded or has nothing to distil.
    SettingsError
        If the teacher is narrower than the dimensions asked for, or the device is not there.

    Notes
    -----
    Row i is ``w_i * PCA(mean of the teacher's last hidden states for [CLS] token_i [SEP])``. The unknown
    token's row is zero, so that libraries which average it in agree with those which leave it out.
    """
    teacher = load_teacher(settings.teacher, revision=settings.revision, device=settings.device)
    vocabulary = build_vocabulary(
        teacher.tokenizer, teacher.model, token_remove_pattern=settings.token_remove_pattern
    )
    outputs = encode_token_ids(
        vocabulary.model,
        vocabulary.sequences,
        pad_token_id=vocabulary.pad_token_id,
        batch_size=settings.batch_size,
        progress=progress,
    )
    reduced = apply_pca(outputs, dimensions=settings.dimensions)
    weights = sif_weights_by_rank(len(outputs), coefficient=settings.sif_coefficient)
    rows = (reduced.rows * weights[:, None]).astype(settings.dtype)
    unknown = find_unknown_token_id(vocabulary.tokenizer)
    if unknown is not None:
        rows[unknown] = 0
    table = StaticTable(
        np.ascontiguousarray(rows), vocabulary.tokenizer.to_str(), normalize=settings.normalize
    )
    return Distilled(
        table=table,
        provenance={
            "teacher": {"name": settings.name or teacher.name, "revision": teacher.revision},
            "recipe": {
                "mode": "output",
                "pooling": "mean",
                "weighting": "sif by rank",
                "sif_coefficient": settings.sif_coefficient,
                "pca_dimensions": settings.dimensions,
                "token_remove_pattern": settings.token_remove_pattern,
            },
            "versions": {"lakevec": __version__, **{name: version(name) for name in _RECORDED_PACKAGES}},
        },
        quality={"explained_variance": reduced.explained_variance},
    )
