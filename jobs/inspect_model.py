"""``lakevec inspect``: describe a model before a lake is embedded with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lakevec.jobs.command_line import Call, run_job
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.description import describe, nearest_tokens
from lakevec.pipeline.settings import InspectSettings

SUMMARY = """\
Describe a model: table, tokenizer, split rule, teacher, neighbours. Check the hashes of a published one.

example:
  lakevec inspect models/minilm --words date matrix
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_job(InspectSettings, inspect_model, argv, name="inspect", summary=SUMMARY)


def inspect_model(call: Call[InspectSettings]) -> None:
    """Print the facts of a model, and the tokens nearest to a few words."""
    settings = call.settings
    artifact = load(settings.model)
    for name, fact in describe(artifact).items():
        print(f"{name:<12} {fact}")
    print(f"neighbours   rows nearest to a word, by cosine (--words, --neighbours {settings.neighbours})")
    for word in settings.words:
        vector = artifact.encode([word])[0]
        found = nearest_tokens(artifact.table, vector, settings.neighbours) if vector.any() else []
        shown = ", ".join(f"{token} {cosine:.2f}" for token, cosine in found)
        print(f"  {word:<10} {shown or 'no known token'}")


if __name__ == "__main__":
    sys.exit(main())
