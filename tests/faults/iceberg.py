"""The Iceberg tables that faults strike: a catalog beside each output, and its readers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyiceberg.catalog.sql
import pyiceberg.table
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import PyArrowFile
from sqlalchemy.orm import Session

from .driver import Points

CATALOG = "catalog.db"
NAME = "db.docs"
WORDS = ("--table-format", "iceberg", "--catalog", "faults", "--table", NAME)


def environment(output: Path | str) -> dict[str, str]:
    """Return the variables by which a run finds the catalog beside its output."""
    return {
        "PYICEBERG_CATALOG__FAULTS__URI": f"sqlite:///{Path(output).parent / CATALOG}",
        "PYICEBERG_CATALOG__FAULTS__TYPE": "sql",
    }


def open_table(output: Path) -> pyiceberg.table.Table | None:
    """Open the table as a reader does, who makes no catalog; None if there is none."""
    catalog = output.parent / CATALOG
    if not catalog.exists() or not catalog.stat().st_size:
        return None
    found = load_catalog("faults", type="sql", uri=f"sqlite:///{catalog}", init_catalog_tables="false")
    try:
        return found.load_table(NAME)
    except NoSuchTableError:
        return None
    finally:
        found.close()


def list_files(output: Path) -> list[str] | None:
    """Return the paths of the files that readers see; None without a table."""
    table = open_table(output)
    return None if table is None else [_path(task.file.file_path) for task in table.scan().plan_files()]


def read(output: Path) -> pa.Table:
    """Read the table with pyiceberg."""
    table = open_table(output)
    if table is None:
        raise FileNotFoundError(NAME)
    return table.scan().to_arrow()


def unknown_files(output: Path) -> Iterable[str]:
    """Name data files that no snapshot of the table lists."""
    table = open_table(output)
    known = set() if table is None else set(table.inspect.all_data_files()["file_path"].to_pylist())
    files = {_path(name) for name in known}
    yield from (file.name for file in output.glob("*.parquet") if str(file) not in files)


def _path(uri: str) -> str:
    return uri.removeprefix("file://")


def watch_catalog(points: Points) -> None:
    """Make a point of each file that pyiceberg writes, and of each change of the catalog."""
    create, commit = PyArrowFile.create, Session.commit

    def create_file(self: PyArrowFile, overwrite: bool = False) -> Any:
        do = partial(create, self, overwrite)
        return points.change(f"create {self.location}", do, lambda: do().close())

    def commit_session(self: Session) -> None:
        points.change("commit to the catalog", partial(commit, self), lambda: None)

    PyArrowFile.create = create_file  # type: ignore[method-assign]
    Session.commit = commit_session  # type: ignore[method-assign]
