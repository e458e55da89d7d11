"""The console script ``lakevec``: its sub-commands are the jobs."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from lakevec import __version__
from lakevec.pipeline.redaction import redact

_JOBS = {
    "benchmark": "measure it here, beside what one would write without it",
    "convert": "read and write the models of other libraries",
    "count": "count the tokens and words of text columns, exactly",
    "demo": "distil, embed and search the docstrings of installed packages",
    "distill": "turn a Sentence Transformer into an embedding table",
    "doctor": "say what is installed here and what is missing",
    "embed": "embed text columns of a lake into Parquet, what is new of it",
    "evaluate": "say how good models are, on public tasks and on your own rows",
    "inspect": "say what a model is, and check a published one",
    "mine": "find the words of a lake that its model should know whole",
    "tune": "fit a table to its teacher on rows of the lake",
    "verify": "check an output against what its runs promised",
}
# spark-submit puts this folder on the path, where a module `inspect` would hide Python's own.
_MODULES = {"inspect": "inspect_model"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lakevec JOB ...``.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line; by default the process's.

    Returns
    -------
    int
        Exit code of the job; 2 if there is no such job.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"lakevec {__version__}")
        return 0
    if words[0] not in _JOBS:
        near = difflib.get_close_matches(words[0], _JOBS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        message = f"lakevec: unknown job {words[0]!r}; expected one of {', '.join(_JOBS)}{hint}"
        print(redact(message), file=sys.stderr)
        return 2
    # Imported by need: embedding must not import what only distilling uses.
    job = importlib.import_module(f"lakevec.jobs.{_MODULES.get(words[0], words[0])}")
    exit_code: int = job.main(words[1:])
    return exit_code


def _usage() -> str:
    jobs = "\n".join(f"  {name:<9} {what}" for name, what in _JOBS.items())
    return f"usage: lakevec JOB [options]\n\njobs:\n{jobs}\n\n'lakevec JOB --help' tells a job's options"


if __name__ == "__main__":
    sys.exit(main())
