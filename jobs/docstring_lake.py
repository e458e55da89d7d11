"""A real lake from nothing but what is installed: docstrings of Python packages, a paragraph a row."""

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
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_HEADLINE = re.compile(r"^[^\n]*\n[-=~]{3,}[ \t]*(\n|$)")


def write_docstring_lake(folder: Path) -> int:
    """Collect the docstrings of the standard library and all installed packages into Parquet files.

    Parameters
    ----------
    folder : pathlib.Path
        New folder for the files; columns ``package``, ``name`` (qualified) and ``text``.

    Returns
    -------
    int
        Number of rows.

    Notes
    -----
    Modules are parsed, never imported. A paragraph that was seen before counts once.
    """
    folder.mkdir(parents=True)
    rows: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    total = 0
    # Parsing takes the time; processes that start afresh inherit no threads of this one.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for paragraphs in pool.map(_module_rows, _modules(), chunksize=32):
            rows += [row for row in paragraphs if row[2] not in seen]
            seen.update(row[2] for row in paragraphs)
            if len(rows) >= _ROWS_PER_FILE:
                total += _write(rows, folder)
                rows = []
    return total + (_write(rows, folder) if rows else 0)


def _modules() -> Iterator[tuple[str, Path]]:
    """Name every module that is installed here, and its file; tests are left out."""
    folders = dict.fromkeys(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))
    for folder in map(Path, folders):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            names = parts[:-1] if parts[-1] == "__init__" else parts
            installed_below = "site-packages" in parts or "dist-packages" in parts
            if names and not installed_below and not any(_is_left_out(name) for name in names):
                yield ".".join(names), file


def _is_left_out(name: str) -> bool:
    return name in ("test", "tests", "testing", "idlelib", "lib2to3")


def _module_rows(module: tuple[str, Path]) -> list[tuple[str, str, str]]:
    """Return package, qualified name and text of each paragraph of a module."""
    name, file = module
    rows = [
        (name.split(".")[0], owner, paragraph)
        for owner, docstring in _docstrings(file, name)
        for paragraph in _paragraphs(docstring)
    ]
    return list({text: (package, owner, text) for package, owner, text in reversed(rows)}.values())[::-1]


def _docstrings(file: Path, module: str) -> Iterator[tuple[str, str]]:
    """Yield qualified names and docstrings of a module, its classes and functions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old code with odd escapes is still documentation
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return  # templates and code for other Pythons
    yield from _walk(tree, module)


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | _Named):
        if docstring := ast.get_docstring(node):
            yield name, docstring
        for child in node.body:
            if isinstance(child, _Named) and not child.name.startswith("_"):
                yield from _walk(child, f"{name}.{child.name}")


def _paragraphs(docstring: str) -> Iterator[str]:
    """Cut a docstring at empty lines; code examples and headlines are not prose."""
    for block in inspect.cleandoc(docstring).split("\n\n"):
        text = " ".join(_HEADLINE.sub("", block).split())
        letters = sum(character.isalpha() for character in text)
        is_prose = letters * 2 > len(text) and not text.startswith((">>>", ".. ", "$"))
        if is_prose and len(text) >= _SHORTEST_CHARACTERS and _is_encodable(text):
            yield text


def _is_encodable(text: str) -> bool:
    """Tell whether a docstring that spells lone surrogates can be UTF-8 at all."""
    return text.encode(errors="ignore").decode() == text


def _write(rows: list[tuple[str, str, str]], folder: Path) -> int:
    table = pa.Table.from_arrays(
        [pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=SCHEMA
    )
    number = len(list(folder.glob("*.parquet")))
    # Small row groups, so that Spark can share a file among cores.
    pq.write_table(
        table, folder / f"docstrings-{number:03d}.parquet", row_group_size=5_000, compression="zstd"
    )
    return len(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{write_docstring_lake(Path(sys.argv[1])):,} rows\n")
