"""``lakevec inspect``: describe a model before you embed a lake with it."""

from __future__ import annotations

import sys

from lakevec.jobs.cli import RunContext, run_command
from lakevec.pipeline.heads.description import describe_head
from lakevec.pipeline.heads.head_folder import is_head, load_head
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.description import describe, nearest_tokens
from lakevec.pipeline.settings.models import InspectSettings

SETTINGS = InspectSettings


def run(settings: InspectSettings, context: RunContext) -> None:
    """Print facts about a model, and the tokens nearest to some words; or facts about a head."""
    if is_head(settings.model):
        for name, fact in describe_head(load_head(settings.model)).items():
            print(f"{name:<12} {fact}")
        return
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
    sys.exit(run_command("inspect"))
