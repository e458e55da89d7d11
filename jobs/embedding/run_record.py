"""The record of a run, ``run.json``: settings, counts and timings."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakevec import __version__
from lakevec.pipeline.output.file_entry import merge_counts, sum_memory
from lakevec.pipeline.redaction import redact

if TYPE_CHECKING:
    from lakevec.jobs.embedding.context import EmbedContext
    from lakevec.jobs.embedding.plan import RunPlan
    from lakevec.jobs.embedding.unchanged import NothingNew
    from lakevec.pipeline.heads.head import Head


def new_run_id() -> str:
    """Return a unique id that sorts by start time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


class RunTimer:
    """Seconds of start-up, and seconds of embedding."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self._started = self._embedding = time.monotonic()

    def start_embedding(self) -> None:
        """End the start-up."""
        self._embedding = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Return ``startup`` and ``embed``, in seconds."""
        embed = time.monotonic() - self._embedding
        return {"startup": round(self._embedding - self._started, 3), "embed": round(embed, 3)}


def build_record(context: EmbedContext | NothingNew, *, error: str = "") -> dict[str, Any]:
    """Return the content of ``run.json``: the run's work and the output's totals.

    Parameters
    ----------
    context : EmbedContext or NothingNew
    error : str, default=""
        The error that ended the run, if any.
    """
    output, plan = context.output, context.plan
    # Readers never see a failed refresh.
    state = output.served if error else output.state
    table = output.count_table()
    has_texts = plan.settings.chunk_tokens is not None and not table
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "run": plan.run_id,
        "status": "failed" if error else "done" if context.micro_batches else "nothing new",
        **({"error": error} if error else {}),
        "last_success": output.last_record().get("last_success") if error else now,
        "lakevec": __version__,
        "spark": context.spark_version,
        "started": plan.timer.started_at.isoformat(timespec="seconds"),
        "model": {
            "uri": plan.artifact.uri,
            "fingerprint": plan.artifact.table.fingerprint,
            "dimensions": plan.artifact.table.dimensions,
        },
        **({"vectors": _describe_vectors(plan)} if plan.settings.vectors else {}),
        **({"heads": heads} if (heads := describe_heads(plan.heads)) else {}),
        "settings": plan.settings.to_record(),
        "output": redact(plan.settings.output),
        **({"others": others} if (others := output.changes.to_record()) else {}),
        **_describe_work(context),
        "total": {
            "commits": state.number + 1,
            "rows": state.rows,
            **({"texts": state.input_rows} if has_texts else {}),
            "rows_quarantined": state.rows_quarantined,
            "files": len(state.files),
            "bytes": state.bytes,
            **table,
        },
        "skipped_files": [file.model_dump() for file in state.skipped.values()],
    }


def describe_heads(heads: Sequence[Head]) -> dict[str, dict[str, str]]:
    """Return place and fingerprint of each head, by its name."""
    return {head.name: {"uri": head.uri, "fingerprint": head.fingerprint} for head in heads}


def _describe_vectors(plan: RunPlan) -> dict[str, Any]:
    """Describe the stored vectors, which may have fewer dimensions than the model's table."""
    return {"type": str(plan.settings.vector_type), "dimensions": plan.dimensions}


def _describe_work(context: EmbedContext | NothingNew) -> dict[str, Any]:
    """Describe the commits of this run."""
    entries, embeddings = context.entries, context.embeddings
    rows = [entry for entry in entries if not entry.is_quarantine]
    is_split = context.plan.settings.chunk_tokens is not None
    counts = merge_counts(entry.counts for entry in entries)
    # Other columns have counts only for strings that are not valid UTF-8.
    invalid = {name: counts[name] for name in counts if name not in embeddings}
    return {
        "waves": context.micro_batches,
        "rows_read": context.rows_read,
        "rows": sum(entry.rows for entry in rows),
        **({"texts": sum(entry.input_rows for entry in rows)} if is_split else {}),
        "rows_quarantined": sum(entry.rows for entry in entries if entry.is_quarantine),
        "files": len(rows),
        "bytes": sum(entry.bytes for entry in rows),
        "seconds": context.plan.timer.seconds(),
        **({"memory": sum_memory(entries)} if entries else {}),
        "columns": {
            column: {"embedding": name, **Counter(counts.get(column, {}))}
            for column, name in embeddings.items()
        },
        **context.details,
        **({"invalid_values": invalid} if invalid else {}),
    }
