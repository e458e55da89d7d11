"""Spark's exceptions in our words: one line, the file or column where Spark knows it, never a row's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException, PythonException

from jobs.session import spark_log
from pipeline import errors
from pipeline.errors import DataError, InputError, LakevecError, UnreadableFileError

# The last line of a worker's traceback, when the error is one of ours.
_OURS = re.compile(r"^pipeline\.errors\.(\w+): (.+)$", re.MULTILINE)
_CONDITION = re.compile(r": \[([A-Z][A-Z0-9_.]+)\]")
_FILE = re.compile(r"(?:file|footer)[^\n]*?((?:\w+:)?/[^\s,;]+)", re.IGNORECASE)


@contextmanager
def translated() -> Iterator[None]:
    """Turn Spark's exceptions inside the block into lakevec's.

    Raises
    ------
    InputError
        For what Spark finds before it reads rows: paths, formats, columns.
    DataError
        For what fails while reading rows.
    LakevecError
        The error that a worker raised, by its own class.
    """
    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise _translate(error) from error
    except ConnectionError as error:
        log = f"; Spark's log is {spark_log()}" if spark_log() else ""
        raise DataError(
            "Spark has died",
            got=type(error).__name__,
            remedy=f"see whether the machine has memory left, then run again{log}",
        ) from error


def _translate(error: PySparkException | Py4JError) -> LakevecError:
    message = str(error)
    if ours := _OURS.search(message):
        kind: type[LakevecError] = getattr(errors, ours[1], DataError)
        return kind(ours[2])
    condition = _condition(error, message)
    if (
        condition.startswith(("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER"))
        or "is not a Parquet file" in message
    ):
        file = _FILE.search(message)
        return UnreadableFileError(file[1].rstrip(".") if file else condition, told=message)
    if condition.startswith("DATA_SOURCE_NOT_FOUND"):
        return InputError(
            "Spark does not know this format",
            expected="parquet, csv, json, text, orc, ...",
            remedy="check --format and --output-format",
        )
    if isinstance(error, AnalysisException):
        # Made before any row is read, so it holds names but no text.
        return InputError("Spark can't plan this input", got=_first_line(message))
    where = f"; Spark's log is {spark_log()}" if spark_log() else ""
    kind_of_failure = "a Python worker" if isinstance(error, PythonException) else "Spark"
    return DataError(
        f"the run failed in {kind_of_failure}",
        got=condition,
        remedy=f"run with --verbose for the whole story{where}",
    )


def _condition(error: PySparkException | Py4JError, message: str) -> str:
    """Return Spark's name of the error; some of Java's errors carry it only in their text."""
    named = error.getCondition() if isinstance(error, PySparkException) else None
    found = _CONDITION.search(message)
    return named or (found[1] if found else type(error).__name__)


def _first_line(message: str) -> str:
    line = re.sub(r"^\[[A-Z0-9_.]+\]\s*", "", message.strip()).split("\n")[0]
    return re.sub(r"\s*SQLSTATE: \w+\s*$", "", line).rstrip(". ")
