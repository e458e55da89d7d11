"""``lakevec distill``: a Sentence Transformer becomes an embedding table, published as a folder."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.pipeline.errors import requires_extra
from lakevec.pipeline.model.publishing import publish, refuse_existing_model
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.distill import DistillSettings

if TYPE_CHECKING:
    from lakevec.pipeline.evaluation.quality_gate import QualityGate
    from lakevec.pipeline.model.table import StaticTable

SETTINGS = DistillSettings


def run(settings: DistillSettings, context: RunContext) -> None:
    """Distil and publish as the settings say.

    Raises
    ------
    SetupError
        If torch or another package of the extra ``distill`` is missing.
    FidelityError
        If the table keeps less to the teacher than asked for; nothing is published then.
    """
    refuse_existing_model(settings.output)
    print(format_settings(settings, full=context.verbose), flush=True)
    if context.dry_run:
        print("dry run: nothing was written")
        return
    started = time.monotonic()
    with requires_extra("distill", "distilling"):
        from lakevec.pipeline.distillation import recipe
        from lakevec.pipeline.evaluation.quality_gate import load_gate
    check = load_gate(settings.sample, settings.sample_text, minimum=settings.min_fidelity)
    distilled = recipe.distill(settings)
    quality = {**distilled.quality, **_compare(settings, check, distilled.table)}
    check.decide(quality)
    publish(distilled.table, settings.output, provenance=distilled.provenance, quality=quality)
    table, chosen = distilled.table, distilled.provenance["recipe"]
    print(f"pooling {chosen['pooling']}: {chosen['pooling_reason']}")
    for what, count in distilled.provenance.get("vocabulary", {}).items():
        print(f"words {what}: {count:,}")
    print(
        f"distilled {table.rows:,} tokens x {table.dimensions} dimensions"
        f" in {time.monotonic() - started:.1f} s,"
        f" {distilled.quality['explained_variance']:.1%} of the variance kept\n"
        f"published {table.fingerprint} to {redact(settings.output)}"
    )


def _compare(settings: DistillSettings, check: QualityGate, table: StaticTable) -> dict[str, Any]:
    """Measure the table beside the teacher, where there is a sample."""
    if not check.texts:
        return {}
    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder

    encoder = SentenceEncoder(
        settings.teacher,
        revision=settings.revision,
        device=settings.device,
        precision=settings.precision,
        trust_remote_code=settings.trust_remote_code,
    )
    found = check.measure(table, encoder.encode)
    print(f"fidelity {found['sample_fidelity']:.4f} on {found['sample_texts']:,} texts of {check.sample}")
    return found


if __name__ == "__main__":
    sys.exit(run_command("distill"))
