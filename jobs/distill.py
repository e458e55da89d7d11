"""``lakevec distill``: turn a Sentence Transformer into an embedding table, and publish it as a folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.pipeline.distillation.options import DistillOptions, TeacherOptions, copy_options
from lakevec.pipeline.errors import requires_extra
from lakevec.pipeline.model.publishing import publish, refuse_existing_model
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.distill import DistillSettings
from lakevec.pipeline.settings.tune import TuneSettings

if TYPE_CHECKING:
    import numpy as np

    from lakevec.pipeline.distillation.weighting import TokenCounts
    from lakevec.pipeline.distillation.word_list import WordList

SETTINGS = DistillSettings


def run(settings: DistillSettings, context: RunContext) -> None:
    """Distil a teacher, and publish the table; if there is a sample, first measure the table on it."""
    refuse_existing_model(settings.output)
    print(format_settings(settings, full=context.verbose), flush=True)
    if context.dry_run:
        print("dry run: nothing was written")
        return
    started = time.monotonic()
    with requires_extra("distill", "distilling"):
        from lakevec.pipeline.distillation import recipe
        from lakevec.pipeline.evaluation.quality_gate import load_gate
    gate = load_gate(settings.sample, settings.sample_text, minimum=settings.min_fidelity)
    distilled = recipe.distill(settings.teacher, to_options(settings))
    quality = {**distilled.quality, **gate.measure(distilled.table, partial(_teach, settings))}
    if gate.texts:
        shown = f"{quality['sample_fidelity']:.4f} on {quality['sample_texts']:,} texts of {gate.sample}"
        print(f"fidelity {shown}")
    gate.decide(quality)
    publish(distilled.table, settings.output, provenance=distilled.provenance, quality=quality)
    table, chosen = distilled.table, distilled.provenance["recipe"]
    print(f"pooling {chosen['pooling']}: {chosen['pooling_reason']}")
    for origin, count in distilled.provenance.get("vocabulary", {}).items():
        print(f"words {origin}: {count:,}")
    print(
        f"distilled {table.rows:,} tokens x {table.dimensions} dimensions"
        f" in {time.monotonic() - started:.1f} s,"
        f" {distilled.quality['explained_variance']:.1%} of the variance kept\n"
        f"published {table.fingerprint} to {redact(settings.output)}"
    )


def to_options(settings: DistillSettings) -> DistillOptions:
    """Turn settings into options; read the vocabulary and the counts that they name."""
    return copy_options(settings, DistillOptions, **read_vocabulary(settings))


def read_vocabulary(settings: DistillSettings | TuneSettings) -> dict[str, WordList | TokenCounts | None]:
    """Read the vocabulary and the counts that settings name, as the options ``words`` and ``counts``."""
    from lakevec.pipeline.distillation.weighting import read_counts
    from lakevec.pipeline.distillation.word_list import read_words

    path, column = settings.vocabulary, settings.vocabulary_column
    return {
        "words": read_words(path, column=column) if path else None,
        "counts": read_counts(settings.counts) if settings.counts else None,
    }


def _teach(settings: DistillSettings, texts: Sequence[str]) -> np.ndarray:
    """Return the teacher's vectors of texts: float32 of shape (N, H)."""
    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder

    options = copy_options(settings, TeacherOptions, batch_size=TeacherOptions.batch_size)
    return SentenceEncoder(settings.teacher, options).encode(texts)


if __name__ == "__main__":
    sys.exit(run_command("distill"))
