"""The decisions of a run before Spark starts: model, input paths, output, and who writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lakevec.jobs.embedding.lineage import Lineage, open_lineage
from lakevec.jobs.embedding.metrics import check_metrics
from lakevec.jobs.embedding.run_record import RunTimer, new_run_id
from lakevec.jobs.spark.overlap import refuse_overlap
from lakevec.pipeline.encoding.text_segmentation import check_segmentation
from lakevec.pipeline.errors import ModelError, OutputError, SettingsError
from lakevec.pipeline.heads.head import Head
from lakevec.pipeline.heads.head_folder import load_head
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.model.table import check_dimensions
from lakevec.pipeline.output.iceberg_table import check_catalog
from lakevec.pipeline.output.output_folder import OutputFolder
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.base import DIRECT, has_flag
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri


@dataclass(frozen=True)
class RunPlan:
    """The decisions of a run before Spark starts.

    Parameters
    ----------
    settings : EmbedSettings
    artifact : Artifact
    heads : tuple of Head
    run_id : str
    timer : RunTimer
    is_direct : bool
        Whether tasks write the output themselves. Otherwise Spark's own writer does.
    output : OutputFolder or None
        None if this process has no file system for the output.
    lineage : Lineage or None
        None without ``--lineage``.
    """

    settings: EmbedSettings
    artifact: Artifact
    heads: tuple[Head, ...]
    run_id: str
    timer: RunTimer
    is_direct: bool
    output: OutputFolder | None
    lineage: Lineage | None

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return check_dimensions(self.settings.dimensions, self.artifact.table.dimensions)


def plan_run(settings: EmbedSettings, on_step: Callable[[str], None] = lambda step: None) -> RunPlan:
    """Check model, input paths and output; choose between lakevec's writer and Spark's."""
    timer = RunTimer()
    if settings.metrics is not None:
        check_metrics(settings.metrics)
    if settings.chunk_tokens is not None:
        check_segmentation()
    if settings.catalog is not None and settings.table is not None:
        check_catalog(settings.catalog, settings.table)
    run_id = new_run_id()
    lineage = open_lineage(settings, run_id)
    artifact = load(settings.model)
    check_dimensions(settings.dimensions, artifact.table.dimensions)
    heads = load_heads(settings, artifact)
    refuse_overlap(
        settings.input,
        settings.option,
        {"--output": settings.output, "--checkpoint": settings.checkpoint},
        format=settings.format,
        is_partitioned=bool(settings.partition_by),
    )
    if settings.output_format != "parquet":
        leave_to_spark(settings, f"only Spark writes format {settings.output_format}")
    output = find_output(settings, run_id, on_step)
    is_direct = output is not None and settings.output_format == "parquet" and settings.sink != "spark"
    if not is_direct:
        check_spark_sink(settings, output)
    return RunPlan(settings, artifact, heads, run_id, timer, is_direct, output, lineage)


def load_heads(settings: EmbedSettings, artifact: Artifact) -> tuple[Head, ...]:
    """Load the heads; raise an error for one that was trained on other vectors than this run's."""
    full = artifact.table.dimensions
    if settings.head and settings.dimensions not in (None, full):
        raise SettingsError(
            "heads need whole vectors",
            got=f"--dimensions {settings.dimensions}",
            expected=f"all {full} dimensions of the model",
            remedy="leave --dimensions out, or write the labels to an output of their own with --no-vectors",
        )
    heads = tuple(map(load_head, settings.head))
    for uri, head in zip(settings.head, heads, strict=True):
        if head.model != artifact.table.fingerprint or head.dimensions != artifact.table.dimensions:
            trained_for = head.provenance.get("model", {}).get("uri", "another")
            raise ModelError(
                f"head {uri!r} was trained for another model, {trained_for!r}",
                got=artifact.table.fingerprint,
                expected=head.model,
                remedy="give that --model, or train a head for this one with lakevec train-head",
            )
        if head.max_tokens != settings.max_tokens:
            raise ModelError(
                f"head {uri!r} was trained with another --max-tokens",
                got=str(settings.max_tokens or "none"),
                expected=str(head.max_tokens or "none"),
            )
    names = [head.name for head in heads]
    if twin := next((name for name in names if names.count(name) > 1), None):
        raise ModelError(
            f"two heads have the name {twin!r}", remedy="train one of them again with another --name"
        )
    return heads


def find_output(settings: EmbedSettings, run_id: str, on_step: Callable[[str], None]) -> OutputFolder | None:
    """Inspect and return the output; None if this process has no file system for it."""
    try:
        output = OutputFolder(absolute_uri(settings.output), run_id, on_step=on_step)
    except OutputError as error:
        if settings.output_format == "parquet":
            leave_to_spark(settings, f"tasks can't write there themselves ({error})")
        return None
    output.inspect()
    return output


def leave_to_spark(settings: EmbedSettings, reason: str) -> None:
    """Print why Spark writes the output; raise OutputError if `sink` is "direct"."""
    if settings.sink == "direct":
        remedy = "use --sink spark"
        raise OutputError("sink 'direct' can't write this output", got=reason, remedy=remedy) from None
    if settings.sink == "auto":
        print(redact(f"sink: Spark's own writer, since {reason}"), flush=True)


def check_spark_sink(settings: EmbedSettings, output: OutputFolder | None) -> None:
    """Raise OutputError for an existing output, and for settings that only the direct sink supports."""
    if output is not None and output.is_begun:
        raise OutputError(
            f"output {settings.output!r} exists",
            expected="a new or empty folder for Spark's own writer",
            remedy="choose another --output, or use --sink direct to continue it",
        )
    direct = {name: field for name, field in EmbedSettings.model_fields.items() if has_flag(field, DIRECT)}
    if refused := [name for name, field in direct.items() if getattr(settings, name) != field.default]:
        raise OutputError(
            "Spark's own writer does not support these options",
            got=", ".join(f"--{name.replace('_', '-')}" for name in refused),
            remedy="leave them out, or use --sink direct",
        )
    if settings.vector_type not in ("float32", "binary"):
        raise OutputError(
            "Spark's own writer stores vectors as float32 or binary",
            got=f"vector type {settings.vector_type}",
            remedy="use --sink direct, or leave --vector-type out",
        )
