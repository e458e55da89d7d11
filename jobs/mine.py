"""``lakevec mine``: choose words of a lake for a model's vocabulary."""

from __future__ import annotations

import json
import sys
from dataclasses import fields

import pyarrow as pa
import pyarrow.parquet as pq

from lakevec import __version__
from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.pipeline.corpus.tokenizer_source import find_tokenizer
from lakevec.pipeline.corpus.vocabulary_mining import MinedVocabulary, MineOptions, mine_words
from lakevec.pipeline.errors import OutputError, describe_failure, rephrase
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.corpus import MineSettings
from lakevec.pipeline.storage import locate

SETTINGS = MineSettings
_SHOWN = 20
# Readers of Parquet folders skip names that begin with "_".
RECORD = "_mine.json"


def run(settings: MineSettings, context: RunContext) -> None:
    """Write a vocabulary; raise OutputError if the output exists."""
    output = locate(settings.output, error=OutputError)
    vocabulary = output / "vocabulary.parquet"
    with rephrase(OutputError, f"can't look at {settings.output!r}", on=OSError, describe=describe_failure):
        is_taken = vocabulary.exists() or (output.exists() and not (output / RECORD).exists())
    if is_taken:
        raise OutputError(f"output {redact(settings.output)!r} exists", remedy="choose another --output")
    print(format_settings(settings, full=context.verbose), flush=True)
    tokenizer = find_tokenizer(settings.model)
    mined = mine_words(settings.counts, tokenizer.json, to_options(settings))
    print(_summarize(mined))
    if context.dry_run:
        print("dry run: nothing was written")
        return
    record = {
        "lakevec": __version__,
        "model": {"uri": tokenizer.uri, "tokenizer": tokenizer.fingerprint},
        "settings": settings.to_record(),
        "report": mined.report,
    }
    (output / RECORD).write_atomic(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
    buffer = pa.BufferOutputStream()
    pq.write_table(mined.table, buffer, compression="zstd")
    # Write the vocabulary last, so that a folder with a vocabulary is complete.
    vocabulary.write_atomic(buffer.getvalue().to_pybytes())
    print(f"wrote {mined.table.num_rows:,} words to {redact(settings.output)}")


def to_options(settings: MineSettings) -> MineOptions:
    """Turn settings into options of the library."""
    return MineOptions(**{field.name: getattr(settings, field.name) for field in fields(MineOptions)})


def _summarize(mined: MinedVocabulary) -> str:
    lines = [f"  {number:>9,} {reason}" for reason, number in mined.report.items() if number]
    lines.append("   saves  count  texts  pieces  word")
    for row in mined.table.slice(0, _SHOWN).to_pylist():
        lines.append(
            f"{row['saving']:>8,} {row['count']:>6,} {row['documents']:>6,} {row['pieces']:>7}  {row['word']}"
        )
    return "\n".join(["words", *lines])


if __name__ == "__main__":
    sys.exit(run_command("mine"))
