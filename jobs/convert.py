"""``lakevec convert``: publish a static model of any library, or export it for another library."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.pipeline.errors import OutputError, requires_extra
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.model.publishing import export, publish, refuse_existing_model
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.models import ConvertSettings
from lakevec.pipeline.storage import Location

SETTINGS = ConvertSettings


def run(settings: ConvertSettings, context: RunContext) -> None:
    """Read a model, and write it in the format of another library."""
    place = refuse_existing_model(settings.output)
    artifact = load(settings.model, revision=settings.revision)
    if settings.dtype is not None and settings.dtype != artifact.table.embeddings.dtype.name:
        artifact = _with_dtype(artifact, settings.dtype)
    table = artifact.table
    print(format_settings(settings, full=context.verbose), flush=True)
    for name, fact in artifact.provenance.get("source", {}).items():
        print(f"{name:<14} {fact}")
    if context.dry_run:
        print("dry run: nothing was written")
        return
    if settings.to == "lakevec":
        publish(table, settings.output, provenance=artifact.provenance, quality=artifact.quality)
    elif settings.to == "onnx":
        _export_onnx(artifact, place)
    else:
        export(artifact, settings.output, to=settings.to)
    print(
        f"wrote {table.rows:,} tokens x {table.dimensions} dimensions, {table.embeddings.dtype}, for"
        f" {settings.to} to {redact(settings.output)}\n"
        f"fingerprint {table.fingerprint}"
    )
    if table.bigrams is not None and settings.to != "lakevec":
        rows = f"{len(table.bigrams):,} bigram rows"
        print(f"exported without its {rows}; figures measured with them do not apply")
    if table.position_scale is not None and settings.to != "lakevec":
        print("position weights are left out: other libraries read the plain mean of this table")
    if table.pools_unknown and settings.to != "sentence-transformers":
        print("model2vec leaves unknown words out of the mean, so vectors of texts with unknown words differ")
    elif table.unknown_token_id is not None and not table.normalize and settings.to != "model2vec":
        print("Sentence Transformers counts unknown words, so vectors of texts with such words are shorter")


def _with_dtype(artifact: Artifact, dtype: str) -> Artifact:
    """Convert the stored rows to another type."""
    table = artifact.table
    rows = table.embeddings.astype("float32")
    rows, weights = quantize_rows(rows, dtype, weights=table.weights, mapping=table.mapping)
    return replace(artifact, table=replace(table, embeddings=rows, weights=weights))


def _export_onnx(artifact: Artifact, place: Location) -> None:
    """Write ONNX with model2vec's exporter."""
    with requires_extra("onnx", "--to onnx"):
        from model2vec import StaticModel
        from model2vec.onnx import export_model_to_onnx
    if not place.is_local:
        raise OutputError(f"output {place.path!r}", expected="a local folder for ONNX")
    table = artifact.table
    model = StaticModel(
        table.dense_rows(),
        Tokenizer.from_str(table.tokenizer_json),
        normalize=table.normalize,
        # With None, model2vec writes a limit of 512 tokens into the tokenizer's files.
        max_length=1_000_000,
    )
    export_model_to_onnx(model, Path(place.path))


if __name__ == "__main__":
    sys.exit(run_command("convert"))
