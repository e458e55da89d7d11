"""``lakevec inspect``: what a published model is, before anyone trusts it with a lake."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.jobs.cli import RunContext, run_command
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.settings.models import InspectSettings

SETTINGS = InspectSettings


def run(settings: InspectSettings, context: RunContext) -> None:
    """Print what there is to know about a model."""
    artifact = load(settings.model)
    for name, fact in describe(artifact):
        print(f"{name:<12} {fact}")
    print(f"neighbours   rows nearest to a word, by cosine (--words, --neighbours {settings.neighbours})")
    table = artifact.table
    encoder = Encoder.from_table(table)
    for word in settings.words:
        vector = encoder.encode(pa.array([word])).vectors[0]
        found = nearest_tokens(table, vector, settings.neighbours) if vector.any() else []
        shown = ", ".join(f"{token} {similarity:.2f}" for token, similarity in found)
        print(f"  {word:<10} {shown or 'no known token'}")


def describe(artifact: Artifact) -> list[tuple[str, str]]:
    """List the facts of a model.

    Parameters
    ----------
    artifact : Artifact

    Returns
    -------
    list of (str, str)
        Name and value of each fact, in the order to show them.
    """
    table = artifact.table
    known = artifact.provenance
    teacher, source = known.get("teacher", {}), known.get("source", {})
    megabytes = sum(tensor.nbytes for tensor in table.tensors().values()) / 1e6
    checked = "all hashes as published" if artifact.is_checked else "of another library"
    shares = f", {len(table.embeddings):,} rows shared by them" if table.mapping is not None else ""
    scaled = ", a factor for each token" if table.weights is not None else ""
    return [
        ("model", f"{artifact.uri}, {checked}"),
        ("fingerprint", table.fingerprint),
        (
            "table",
            f"{table.rows:,} tokens x {table.dimensions} dimensions, {table.embeddings.dtype},"
            f" {megabytes:,.1f} MB{shares}{scaled}",
        ),
        ("vectors", "scaled to length 1" if table.normalize else "not normalised"),
        *([("source", _list_values(source))] if source else []),
        *([("hub", _list_values(known["hub"]))] if "hub" in known else []),
        ("teacher", f"{teacher.get('name', 'unknown')}, revision {teacher.get('revision', 'unknown')}"),
        ("recipe", _list_values(known.get("recipe", {}))),
        *([("vocabulary", _list_values(known["vocabulary"]))] if "vocabulary" in known else []),
        ("quality", _list_values(artifact.quality)),
        *_describe_tokenizer(table),
    ]


def nearest_tokens(table: StaticTable, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
    """Find the tokens whose rows point most nearly where a vector points.

    Parameters
    ----------
    table : StaticTable
    vector : float32 ndarray of shape (D,)
        Not zero.
    count : int
        How many tokens.

    Returns
    -------
    list of (str, float)
        Token and cosine, nearest first; rows of zeros are left out.
    """
    rows = table.dense_rows()
    lengths = np.linalg.norm(rows, axis=1)
    scale = lengths * np.linalg.norm(vector)
    cosines = np.divide(rows @ vector, scale, out=np.full(len(rows), -np.inf, np.float32), where=scale > 0)
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    nearest = np.argsort(-cosines, kind="stable")[:count]
    return [(tokenizer.id_to_token(int(row)), float(cosines[row])) for row in nearest if lengths[row] > 0]


def _describe_tokenizer(table: StaticTable) -> list[tuple[str, str]]:
    rule = find_split_rule(table.tokenizer_json)
    told = (
        f"{rule.name}: each distinct chunk is tokenized once"
        if isinstance(rule, SplitRule)
        else "none: every text is tokenized whole, which is slower"
    )
    model = json.loads(table.tokenizer_json)["model"].get("type", "model of an old file")
    unknown = "counted in the mean" if table.pools_unknown else "none"
    if table.unknown_token_id is not None:
        token = Tokenizer.from_str(table.tokenizer_json).id_to_token(table.unknown_token_id)
        unknown = f"{token}, id {table.unknown_token_id}, left out of the mean"
    return [
        ("tokenizer", f"{model} ({rule.reason})"),
        ("unknown", unknown),
        ("cut rule", told),
    ]


def _list_values(values: dict[str, Any]) -> str:
    shown = [
        f"{name.replace('_', ' ')} {value:.4g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in values.items()
    ]
    return ", ".join(shown) or "not recorded"


if __name__ == "__main__":
    sys.exit(run_command("inspect"))
