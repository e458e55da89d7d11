"""Describe a model: its table, tokenizer and provenance, and the tokens near a vector."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.model.artifact import Artifact
from lakevec.pipeline.model.table import StaticTable


def describe(artifact: Artifact) -> dict[str, str]:
    """Return the facts of a model by name, in the order to show them."""
    table, known = artifact.table, artifact.provenance
    teacher, dtype = known.get("teacher", {}), table.embeddings.dtype
    tensors = [*table.tensors().values(), *(table.bigrams.tensors().values() if table.bigrams else ())]
    megabytes = sum(tensor.nbytes for tensor in tensors) / 1e6
    size = f"{table.rows:,} tokens x {table.dimensions} dimensions, {dtype}, {megabytes:,.1f} MB"
    if table.mapping is not None:
        size += f", {len(table.embeddings):,} rows shared by the tokens"
    if table.weights is not None:
        size += ", a factor for each token"
    checked = "all hashes correct" if artifact.is_checked else "of another library"
    facts = {
        "model": f"{artifact.uri}, {checked}",
        "fingerprint": table.fingerprint,
        "table": size,
        "vectors": "scaled to length 1" if table.normalize else "not normalised",
    }
    if table.position_scale is not None:
        facts["positions"] = f"token p of a text, from 0 on, counts 1 / (1 + p / {table.position_scale:g})"
    if table.bigrams is not None:
        facts["bigrams"] = f"{len(table.bigrams):,} pairs of neighbouring tokens have rows of their own"
    facts |= {name: _list_values(known[name]) for name in ("source", "hub") if known.get(name)}
    facts["teacher"] = f"{teacher.get('name', 'unknown')}, revision {teacher.get('revision', 'unknown')}"
    facts["recipe"] = _list_values(known.get("recipe", {}))
    if "vocabulary" in known:
        facts["vocabulary"] = _list_values(known["vocabulary"])
    return facts | {"quality": _list_values(artifact.quality)} | _describe_tokenizer(table)


def nearest_tokens(table: StaticTable, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
    """Find the tokens whose rows have the largest cosine with a vector.

    Parameters
    ----------
    table : StaticTable
    vector : float32 ndarray of shape (D,)
        Not zero.
    count : int

    Returns
    -------
    list of (str, float)
        Token and cosine, nearest first, without tokens of zero rows.
    """
    rows = table.dense_rows()
    lengths = np.linalg.norm(rows, axis=1)
    scale = lengths * np.linalg.norm(vector)
    cosines = np.divide(rows @ vector, scale, out=np.full(len(rows), -np.inf, np.float32), where=scale > 0)
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    nearest = np.argsort(-cosines, kind="stable")[:count]
    return [(tokenizer.id_to_token(int(row)), float(cosines[row])) for row in nearest if lengths[row] > 0]


def _describe_tokenizer(table: StaticTable) -> dict[str, str]:
    rule = find_split_rule(table.tokenizer_json)
    split = "none: every text is tokenized whole, which is slower"
    if isinstance(rule, SplitRule):
        split = f"{rule.name}: each distinct segment is tokenized once"
    model = json.loads(table.tokenizer_json)["model"].get("type", "model of unrecorded type")
    unknown = "counted in the mean" if table.pools_unknown else "none"
    if table.unknown_token_id is not None:
        token = Tokenizer.from_str(table.tokenizer_json).id_to_token(table.unknown_token_id)
        unknown = f"{token}, id {table.unknown_token_id}, left out of the mean"
    return {"tokenizer": f"{model} ({rule.reason})", "unknown": unknown, "split rule": split}


def _list_values(values: dict[str, Any]) -> str:
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items()) or "not recorded"
