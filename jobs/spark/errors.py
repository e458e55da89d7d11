"""Turn Spark's exceptions into lakevec's: one line that names the file or column, never a row's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException, PySparkException, PythonException

from lakevec.jobs.spark.file_systems import explain_file_system
from lakevec.jobs.spark.overlap import GLOB, HOW_TO_ESCAPE
from lakevec.jobs.spark.session import spark_log
from lakevec.pipeline import errors
from lakevec.pipeline.errors import DataError, InputError, LakevecError, UnreadableFileError

try:
    from py4j.protocol import Py4JError
except ImportError:  # pyspark-client, without a JVM, does not bring py4j

    class Py4JError(Exception):  # type: ignore[no-redef]
        """Placeholder, since a Connect session never raises this error."""


SPARK_ERRORS = (PySparkException, Py4JError)

# A worker's traceback ends with this line if lakevec raised the error.
_LAKEVEC_ERROR = re.compile(r"(?:^|\] )lakevec\.pipeline\.errors\.(\w+): (.+)$", re.MULTILINE)
_CONDITION = re.compile(r": \[([A-Z][A-Z0-9_.]+)\]")
_MISMATCH = re.compile(
    r"reading file (?P<file>.+)\. Data type mismatches when reading Parquet column \[(?P<column>.+)\]\. "
    r"Expected Spark type (?P<expected>.+), actual Parquet type (?P<got>.+?)\.(?:\s|$)"
)
_UNMERGED = re.compile(
    r'Initial schema:\s*"STRUCT<(?P<first>.+)>"\s*Schema that cannot be merged[^"]*"STRUCT<(?P<other>.+)>"'
)
_FILES = (
    # A name may hold blanks, dots and commas, so the text after it marks its end.
    re.compile(r"reading file:? (.+?)\.?\s+(?:SQLSTATE|Could not read footer|Data type|File does not|\n|$)"),
    re.compile(r"footer (?:for|of) file:? (.+?)\.?\s+(?:SQLSTATE|\n|$)"),
    re.compile(r"(\w+:/.+?) is not a Parquet file"),
    re.compile(r"(?:file|footer)[^\n]*?((?:\w+:)?/[^\s,;]+)", re.IGNORECASE),
)
_COLON_IN_NAME = re.compile(r"URISyntaxException: Relative path in absolute URI: (\S.*)")
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_RAISED = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$", re.MULTILINE)
# Messages of these errors contain modules, files and limits, but no values of rows.
_WITHOUT_DATA = re.compile(
    r"(?:\w+\.)*(?:OSError|IOError|\w*(?:File|Directory|Process|ChildProcess)\w*Error|PermissionError"
    r"|InterruptedError|TimeoutError|Connection\w*Error|BrokenPipeError|BlockingIOError|MemoryError"
    r"|ImportError|ModuleNotFoundError|NameError|RecursionError|NotImplementedError|PicklingError"
    r"|UnpicklingError|ArrowMemoryError|ArrowNotImplementedError|LoweringError|TypingError|LLVMException)"
)
_JAVA_ERROR = re.compile(
    r"^(?:: |Caused by: )(?P<kind>[a-z][\w.]*\.[A-Z][\w$]*)(?:: (?P<text>.*))?$", re.MULTILINE
)
_JAVA_WITHOUT_DATA = re.compile(
    r".*(?:OutOfMemoryError|StackOverflowError|UnknownHostException|ConnectException|SocketTimeoutException"
    r"|NoRouteToHostException|AccessControlException|AccessDeniedException|FileNotFoundException"
    r"|FileAlreadyExistsException|NoSuchBucketException|UnknownStoreException|S3Exception|SdkClientException"
    r"|AWS\w+Exception|NoAuthWithAWSException|AbfsRestOperationException|RpcException|DiskErrorException)"
)
_CONDITIONS = {
    "DATA_SOURCE_NOT_FOUND": (
        "Spark does not know this format",
        "parquet, csv, json, text, orc, ...",
        "check --format and --output-format",
    ),
    "CONFLICTING_DIRECTORY_STRUCTURES": (
        "the input mixes partition folders with others",
        "folders of one kind below each --input, such as day=2026-11-26",
        "give each kind as a separate --input; if the folders belong to an output, move them elsewhere",
    ),
    "UNABLE_TO_INFER_SCHEMA": (
        "the input has no files",
        "files of the --format given",
        "check --input; Spark leaves out files and folders whose names begin with _ or a dot",
    ),
    "COLUMN_ALREADY_EXISTS": (
        "two columns or fields of the input have the same name",
        "",
        "if their case differs, add --conf spark.sql.caseSensitive=true and leave one out with --keep; "
        "else rename one first",
    ),
}
_DISK_IS_FULL = "No space left on device"
WORKER_DIED = "Python worker exited unexpectedly"
_CRASHES = {
    WORKER_DIED: (
        "a Python worker died",
        "the system may have killed it because memory ran out: raise spark.executor.memoryOverhead, or lower "
        "--batch-rows, or run fewer tasks at once",
    ),
    "ExecutorLostFailure": (
        "an executor was lost",
        "read its last lines in the cluster's log; if memory ran out, raise spark.executor.memoryOverhead",
    ),
    "OutOfMemoryError": (
        "Java ran out of memory",
        "raise spark.driver.memory or spark.executor.memory",
    ),
    _DISK_IS_FULL: (
        "a disk is full",
        "free space in the output, below spark.local.dir and in the folder for temporary files",
    ),
    "cancelled part of cancelled job": ("the job was cancelled", "run again"),
    "SparkContext was shut down": ("Spark was stopped from outside", "run again"),
}


@contextmanager
def spark_errors() -> Iterator[None]:
    """Turn Spark's exceptions inside the block into lakevec's.

    Raises
    ------
    InputError
        If Spark rejects paths, formats or columns before it reads rows.
    SetupError
        If this Spark lacks a file system.
    DataError
        If reading or processing rows fails.
    LakevecError
        If a worker raised it; the class is the worker's.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        raise _translate(error) from error
    except ConnectionError as error:
        raise DataError(
            "Spark has died",
            got=type(error).__name__,
            remedy=f"check the machine's free memory, then run again{_name_log()}",
        ) from error


def _translate(error: Any) -> LakevecError:
    message = str(error)
    if raised_by_worker := _LAKEVEC_ERROR.search(message):
        kind: type[LakevecError] = getattr(errors, raised_by_worker[1], DataError)
        return kind(raised_by_worker[2])
    condition = _condition(error, message)
    return (
        explain_file_system(message)
        or _explain_names_and_types(message)
        or _explain_condition(message, condition)
        or _explain_plan(error, message, condition)
        or _explain_failure(error, message, condition)
    )


def _explain_names_and_types(message: str) -> LakevecError | None:
    """Name the file or column if only the message identifies the error."""
    if colon := _COLON_IN_NAME.search(message):
        return InputError(
            "Hadoop can't read a name with a colon in it",
            got=repr(colon[1].strip()),
            expected="names of files and folders without colons",
            remedy="rename it, or replace the pattern that matches it by plain folders",
        )
    if mismatch := _MISMATCH.search(message):
        return DataError(
            f"column {mismatch['column'].replace(', ', '.')!r} has another type in a file",
            got=f"{mismatch['got']} in {_plain_name(mismatch['file'])}",
            expected=f"{mismatch['expected']}, as in the file that gives Spark the schema",
            remedy="convert the file, or leave the column out with --keep",
        )
    if unmerged := _UNMERGED.search(message):
        first, other = _fields(unmerged["first"]), _fields(unmerged["other"])
        differing = [name for name in first if other.get(name, first[name]) != first[name]]
        return InputError(
            f"column {', '.join(map(repr, differing)) or '(unnamed)'} has two types in files of the input",
            got=" and ".join(f"{first[name]} and {other[name]}" for name in differing),
            remedy="convert the files, or leave out mergeSchema",
        )
    return None


def _explain_condition(message: str, condition: str) -> LakevecError | None:
    """Explain an error by Spark's error condition."""
    is_unreadable = condition.startswith(("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER"))
    if is_unreadable or "is not a Parquet file" in message:
        return UnreadableFileError(find_file(message) or condition, told=message)
    if "Conflicting directory structures" in message:
        condition = "CONFLICTING_DIRECTORY_STRUCTURES"
    for name, (what, expected, remedy) in _CONDITIONS.items():
        if condition.startswith(name):
            got = first_line(message).partition(". ")[0] if not expected else ""
            return InputError(what, got=got, expected=expected, remedy=remedy)
    return None


def _explain_plan(error: Any, message: str, condition: str) -> LakevecError | None:
    """Quote Spark's planner: it reads no rows, so its messages hold only names."""
    if not isinstance(error, AnalysisException):
        return None
    line = first_line(message)
    is_pattern = condition == "PATH_NOT_FOUND" and GLOB.search(line)
    return InputError("Spark can't plan this input", got=line, remedy=HOW_TO_ESCAPE if is_pattern else "")


def _fields(struct: str) -> dict[str, str]:
    """Map field names to types in the text between STRUCT's brackets."""
    fields, depth = [""], 0
    for character in struct:
        depth += (character in "<(") - (character in ">)")
        if character == "," and not depth:
            fields.append("")
        else:
            fields[-1] += character
    return {name.strip(): kind.strip() for name, _, kind in (field.partition(":") for field in fields)}


def find_file(message: str) -> str:
    """Return the file that Spark names in an error; empty if it names none."""
    for pattern in _FILES:
        if found := pattern.search(message):
            return _plain_name(found[1])
    return ""


def _plain_name(name: str) -> str:
    # Spark 4 writes file:///a%20b; earlier versions wrote file:/a b.
    return unquote(name) if re.match(r"\w+://", name) else name.rstrip(".")


def _explain_failure(error: Any, message: str, condition: str) -> LakevecError:
    """Describe a failed task without quoting messages that can hold a row's text."""
    is_python = isinstance(error, PythonException) or "Traceback (most recent call last)" in message
    got = (_python_failure(message) if is_python else _java_failure(message)) or condition
    # A worker's message may hold a row's text, and with it any phrase.
    crashes = {_DISK_IS_FULL: got} if is_python else dict.fromkeys(_CRASHES, message)
    for phrase, text in crashes.items():
        if phrase in text:
            what, remedy = _CRASHES[phrase]
            remedy = f"{remedy}; then run again{_name_log()}"
            return DataError(what, got=got if is_python else "", remedy=remedy)
    return DataError(
        f"the run failed in {'a Python worker' if is_python else 'Spark'}",
        got=got,
        remedy=f"run with --verbose for the traceback{_name_log()}",
    )


def _name_log() -> str:
    return f"; Spark's log is {log}" if (log := spark_log()) else ""


def _python_failure(message: str) -> str:
    """Return the type of a worker's error, with its message if that holds no data, else its place."""
    frames = list(_FRAME.finditer(message))
    if not frames:
        return ""
    # The error follows the last frame and its indented line of code.
    raised = _RAISED.search(message, frames[-1].end())
    if raised is None:
        return ""
    kind, text = raised["kind"], (raised["text"] or "").strip()
    if _WITHOUT_DATA.fullmatch(kind) and text:
        return f"{kind}: {text[:300]}"
    own = [frame for frame in frames if re.search(r"(?:^|/)(?:pipeline|udfs)/", frame["file"])]
    frame = (own or frames)[-1]
    place = "/".join(frame["file"].split("/")[-3:])
    return f"{kind} at {place}:{frame['line']} in {frame['function'].strip()}"


def describe_java_error(error: Exception) -> str:
    """Describe a Java error without text that could come from a row."""
    return _java_failure(str(error)) or type(error).__name__


def _java_failure(message: str) -> str:
    """Return the class of a Java error's cause, with its message if that holds no data, else its place."""
    causes = list(_JAVA_ERROR.finditer(message))
    if not causes:
        return ""
    cause = causes[-1]
    kind, text = cause["kind"], (cause["text"] or "").strip()
    if _JAVA_WITHOUT_DATA.fullmatch(kind) and text:
        return f"{kind}: {text[:300]}"
    place = re.search(r"^\s*at ([\w.$/]+)\(([\w.]+:\d+)\)", message[cause.end() :], re.MULTILINE)
    return f"{kind} at {place[2]}" if place else kind


def _condition(error: Any, message: str) -> str:
    """Return Spark's error condition; some Java errors carry it only in their message."""
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    found = _CONDITION.search(message)
    return condition or (found[1] if found else type(error).__name__)


def first_line(message: str) -> str:
    """Return the first line of Spark's message without exception class, condition and SQLSTATE."""
    line = re.sub(r"^(?:[\w.$]+:\s+)?\[[A-Z0-9_.]+\]\s*", "", message.strip()).split("\n")[0]
    return re.sub(r"\s*SQLSTATE: \w+.*$", "", line).rstrip(". ")
