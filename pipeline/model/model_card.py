"""The model card, ``README.md`` of a published model: what it is, where from, what was measured."""

from __future__ import annotations

from typing import Any

_CARD = """\
---
library_name: model2vec
tags:
- embeddings
- static-embeddings
- sentence-transformers
- lakevec
---

# {title}

A static embedding table, {made} by lakevec from **{origin}**: {rows:,} tokens x {dimensions} dimensions,
{dtype}. The vector of a text is the mean of its {tokens} rows{normalized}.

| | |
|---|---|
| fingerprint | `{fingerprint}` |
{facts}

## Use

```python
from model2vec import StaticModel
StaticModel.from_pretrained("FOLDER").encode(["a text"])

from sentence_transformers import SentenceTransformer
SentenceTransformer("FOLDER").encode(["a text"])
```

Over a data lake: `lakevec embed --model FOLDER --input LAKE --text COLUMN --output VECTORS`.

## What to know

- No text is cut: all of its tokens count. `max_tokens` of lakevec and `max_length` of model2vec cut if asked.
- Text without a known token gets the zero vector.
- {agreement}
"""

_AGREES = (
    "lakevec, model2vec and Sentence Transformers give the same vectors: the unknown token's row is zero, "
    "so averaging it in (Sentence Transformers) or leaving it out (the others) differs only in length, "
    "which normalisation removes."
)
_POOLS = (
    "The unknown token's row counts in the mean, as it does in Sentence Transformers; model2vec leaves it "
    "out, so there the vectors of texts with unknown words differ."
)
_DIFFERS = (
    "Vectors are not normalised. lakevec and model2vec leave unknown tokens out of the mean; Sentence "
    "Transformers counts them, so there the vector of a text with unknown tokens is shorter, in the same "
    "direction."
)


def make_card(manifest: dict[str, Any]) -> str:
    """Write the card of a model.

    Parameters
    ----------
    manifest : dict
        Content of the model's ``lakevec.json``.

    Returns
    -------
    str
        Markdown with the metadata block that model hubs read.
    """
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
    origin = f"a model of {source['format']}" if source else teacher.get("name", "an unnamed teacher")
    pools_unknown = manifest.get("pools_unknown", False)
    return _CARD.format(
        title=f"{teacher.get('name', 'static model')}, {manifest['dimensions']} dimensions",
        made="converted" if source else "distilled",
        origin=origin,
        tokens="tokens'" if pools_unknown else "known tokens'",
        rows=manifest["rows"],
        dimensions=manifest["dimensions"],
        dtype=manifest["dtype"],
        normalized=", scaled to length 1" if manifest["normalize"] else "",
        fingerprint=manifest["fingerprint"],
        facts="\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in facts.items()),
        agreement=_POOLS if pools_unknown else _AGREES if manifest["normalize"] else _DIFFERS,
    )


def _cell(value: Any) -> str:
    """Show one value in a Markdown table."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    shown = " ".join(shown.replace("|", "\\|").split())
    return f"`{shown}`" if isinstance(value, str) else shown
