"""A lake of real text without a download: one row for each docstring paragraph of installed packages."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([("package", pa.string()), ("name", pa.string()), ("text", pa.string())])
_SHORTEST_CHARACTERS = 20
_ROWS_PER_FILE = 20_000
_LEFT_OUT = frozenset(["test", "tests", "testing", "idlelib", "lib2to3"])
_Row = tuple[str, str, str]
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_HEADLINE = re.compile(r"^[^\n]*\n[-=~]{3,}[ \t]*(\n|$)")


def write_docstring_lake(folder: Path) -> int:
    """Write distinct docstring paragraphs of the standard library and all installed packages as Parquet.

    Modules are parsed, not imported, so no code of theirs runs.

    Parameters
    ----------
    folder : pathlib.Path
        New folder for the files; columns ``package``, ``name`` (qualified) and ``text``.

    Returns
    -------
    int
        Number of rows.
    """
    folder.mkdir(parents=True)
    rows: list[_Row] = []
    texts: set[str] = set()
    # Parsing takes most of the time. Forking a process that has threads could deadlock, so spawn.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for paragraphs in pool.map(_module_rows, _modules(), chunksize=32):
            rows += [row for row in paragraphs if row[2] not in texts]
            texts.update(row[2] for row in paragraphs)
            if len(rows) >= _ROWS_PER_FILE:
                _write(rows, folder)
                rows = []
    if rows:
        _write(rows, folder)
    return len(texts)


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield the name and file of every installed module except tests."""
    folders = dict.fromkeys(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))
    for folder in map(Path, folders):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            names = parts[:-1] if parts[-1] == "__init__" else parts
            installed_below = "site-packages" in parts or "dist-packages" in parts
            if names and not installed_below and _LEFT_OUT.isdisjoint(names):
                yield ".".join(names), file


def _module_rows(module: tuple[str, Path]) -> list[_Row]:
    """Return package, qualified name and text of each distinct paragraph of a module."""
    name, file = module
    rows: dict[str, _Row] = {}
    for owner, docstring in _docstrings(file, name):
        for text in _paragraphs(docstring):
            rows.setdefault(text, (name.partition(".")[0], owner, text))
    return list(rows.values())


def _docstrings(file: Path, module: str) -> Iterator[tuple[str, str]]:
    """Yield qualified names and docstrings of a module, its classes and functions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old code
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return  # a template, or code for another Python
    yield from _walk(tree, module)


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | _Named):
        if docstring := ast.get_docstring(node):
            yield name, docstring
        for child in node.body:
            if isinstance(child, _Named) and not child.name.startswith("_"):
                yield from _walk(child, f"{name}.{child.name}")


def _paragraphs(docstring: str) -> Iterator[str]:
    """Split a docstring at empty lines; omit code, headlines and text that UTF-8 can't encode."""
    for block in inspect.cleandoc(docstring).split("\n\n"):
        text = " ".join(_HEADLINE.sub("", block).split())
        letters = sum(character.isalpha() for character in text)
        is_prose = letters * 2 > len(text) and not text.startswith((">>>", ".. ", "$"))
        is_encodable = text.encode(errors="ignore").decode() == text  # lone surrogates are not
        if is_prose and is_encodable and len(text) >= _SHORTEST_CHARACTERS:
            yield text


def _write(rows: list[_Row], folder: Path) -> None:
    table = pa.Table.from_arrays(list(zip(*rows, strict=True)), schema=SCHEMA)
    file = folder / f"docstrings-{len(list(folder.iterdir())):03d}.parquet"
    # Small row groups let Spark split a file among cores.
    pq.write_table(table, file, row_group_size=5_000, compression="zstd")


if __name__ == "__main__":
    print(f"{write_docstring_lake(Path(sys.argv[1])):,} rows")
