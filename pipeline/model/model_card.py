"""The model card, ``README.md`` of a published model: what it is, where it comes from, what was measured."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import Any

_POOLS = (
    "The unknown token's row counts in the mean, as it does in Sentence Transformers; model2vec leaves it "
    "out, so there the vectors of texts with unknown words differ."
)
_AGREES = (
    "lakevec, model2vec and Sentence Transformers give the same vectors: the unknown token's row is zero, "
    "so averaging it in (Sentence Transformers) or leaving it out (the others) differs only in length, "
    "which normalisation removes."
)
_DIFFERS = (
    "Vectors are not normalised. lakevec and model2vec leave unknown tokens out of the mean; Sentence "
    "Transformers counts them, so there the vector of a text with unknown tokens is shorter, in the same "
    "direction."
)


def make_card(manifest: dict[str, Any]) -> str:
    """Return the card of a model, given its ``lakevec.json``: Markdown with the metadata that hubs read."""
    provenance = manifest["provenance"]
    teacher, source = provenance.get("teacher", {}), provenance.get("source", {})
    facts = {
        **(
            {"teacher": f"{teacher['name']}, revision {teacher.get('revision', 'unknown')}"}
            if teacher
            else {}
        ),
        **{name: value for name, value in source.items() if name != "format"},
        **provenance.get("recipe", {}),
        **manifest["quality"],
        **provenance.get("versions", {}),
    }
    pools_unknown = manifest.get("pools_unknown", False)
    template = Template(
        files("lakevec.pipeline.model").joinpath("model_card.template").read_text(encoding="utf-8")
    )
    return template.substitute(
        title=f"{teacher.get('name', 'static model')}, {manifest['dimensions']} dimensions",
        made="converted" if source else "distilled",
        origin=f"a model of {source['format']}" if source else teacher.get("name", "an unnamed teacher"),
        tokens="tokens'" if pools_unknown else "known tokens'",
        rows=f"{manifest['rows']:,}",
        dimensions=manifest["dimensions"],
        dtype=manifest["dtype"],
        scaled=", scaled to length 1" if manifest["normalize"] else "",
        fingerprint=manifest["fingerprint"],
        facts="\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in facts.items()),
        agreement=_POOLS if pools_unknown else _AGREES if manifest["normalize"] else _DIFFERS,
    )


def _cell(value: Any) -> str:
    """Show one value in a Markdown table."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    shown = " ".join(shown.replace("|", "\\|").split())
    return f"`{shown}`" if isinstance(value, str) else shown
