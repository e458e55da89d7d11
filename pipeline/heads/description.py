"""Describe a head for people."""

from __future__ import annotations

from typing import Any

from lakevec.pipeline.heads.head import Head

_MOST_LABELS = 20


def describe_head(head: Head) -> dict[str, str]:
    """Return the facts of a head by name, in the order to show them."""
    shown = ", ".join(map(str, head.labels[:_MOST_LABELS]))
    more = f" and {len(head.labels) - _MOST_LABELS:,} more" if len(head.labels) > _MOST_LABELS else ""
    facts = {
        "head": f"{head.name}, {head.kind.value}{f', {head.uri}, all hashes correct' if head.uri else ''}",
        "fingerprint": head.fingerprint,
        "model": f"{head.provenance.get('model', {}).get('uri', 'unknown')}, {head.model}",
        "vectors": f"{head.dimensions} dimensions, of {_tokens(head)}",
    }
    if head.labels:
        facts["labels"] = f"{len(head.labels):,} of type {head.label_type}: {shown}{more}"
    facts["training"] = _list_values(head.provenance.get("settings", {}) | head.provenance.get("rows", {}))
    facts["held-out"] = _list_values(head.quality)
    return facts


def _tokens(head: Head) -> str:
    return "whole texts" if head.max_tokens is None else f"a text's first {head.max_tokens:,} known tokens"


def _list_values(values: dict[str, Any]) -> str:
    """Name all single values; lists hold the figures of each label."""
    listed = (
        f"{name.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
        for name, value in values.items()
        if not isinstance(value, list)
    )
    return ", ".join(listed) or "nothing was measured"
