"""The card of a head: Markdown with its held-out figures."""

from __future__ import annotations

from importlib import resources
from string import Template
from typing import Any

from lakevec.pipeline.heads.head import Head, HeadKind
from lakevec.pipeline.model.published_folder import cell

_KINDS = {
    HeadKind.CLASSIFICATION: "one label for each text",
    HeadKind.MULTI_LABEL: "any number of labels for each text",
    HeadKind.REGRESSION: "a number for each text",
}


def make_card(head: Head) -> str:
    """Return the card of a head."""
    provenance = head.provenance
    facts: dict[str, Any] = {"dimensions": head.dimensions, "max_tokens": head.max_tokens or "all"}
    for part in ("model", "settings", "rows", "versions"):
        facts |= provenance.get(part, {})
    template = (resources.files("lakevec.pipeline.heads") / "head_card.template").read_text(encoding="utf-8")
    outputs = f"{len(head.labels):,} labels" if head.labels else "one number"
    return Template(template).substitute(
        name=head.name,
        kind=_KINDS[head.kind],
        outputs=outputs,
        fingerprint=head.fingerprint,
        model=head.model,
        facts="\n".join(f"| {name.replace('_', ' ')} | {cell(value)} |" for name, value in facts.items()),
        figures=_figures(head.quality) if head.quality else "Nothing was measured.",
        max_tokens=f", max_tokens={head.max_tokens}" if head.max_tokens else "",
    )


def _figures(quality: dict[str, Any]) -> str:
    """Return the held-out figures, and those of each label, as tables."""
    whole = {name: value for name, value in quality.items() if name != "labels"}
    lines = ["| | |", "|---|--:|"]
    lines += [f"| {name.replace('_', ' ')} | {cell(value)} |" for name, value in whole.items()]
    if labels := quality.get("labels"):
        names = list(labels[0])
        lines += ["", f"| {' | '.join(names)} |", "|---" + "|--:" * (len(names) - 1) + "|"]
        lines += [f"| {' | '.join(cell(value) for value in row.values())} |" for row in labels]
    return "\n".join(lines)
