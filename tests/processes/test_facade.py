"""`import lakevec`: its public names, and what they cost to import."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lakevec
from lakevec.pipeline import errors
from lakevec.udfs.distribution import build_code_archive
from tests.support.paths import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ERRORS = {name for name, _ in inspect.getmembers(errors, inspect.isclass) if name.endswith("Error")}
NAMES = [name for name in lakevec.__all__ if name != "__version__"]


def run_code(code: str, **environment: str) -> str:
    """What a fresh process prints."""
    argv, env = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(argv, cwd="/", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value: Any = getattr(lakevec, name)
    assert value.__name__ == name
    assert value.__doc__


@pytest.mark.parametrize("name", sorted(set(NAMES) - ERRORS | {"LakevecError"}))
def test_public_name_shows_an_example(name: str) -> None:
    assert ">>> " in inspect.getdoc(getattr(lakevec, name))  # type: ignore[operator]


def test_all_errors_are_public() -> None:
    assert set(lakevec.__all__) >= ERRORS


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(lakevec.__file__).read_text())
    [block] = [
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {(node.names[0].asname, getattr(lakevec, node.names[0].name).__module__) for node in imports}
    assert sorted(name for name, _ in seen if name) == sorted(NAMES)
    assert seen == {(node.names[0].name, node.module) for node in imports}


def test_names_are_listed_before_their_first_use() -> None:
    listed = json.loads(run_code("import json, lakevec; print(json.dumps(dir(lakevec)))"))
    assert set(listed) >= set(lakevec.__all__)


def test_misspelled_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'lakevec' has no attribute 'lode'$"):
        lakevec.lode  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Encodr'"):
        from lakevec import Encodr  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize(
    "code",
    [
        "import lakevec.pipeline.errors; print(lakevec.pipeline.errors.LakevecError is lakevec.LakevecError)",
        "from lakevec import pipeline; print(pipeline.__name__ == 'lakevec.pipeline')",
        "from lakevec import *; print(LakevecError.__module__ == 'lakevec.pipeline.errors')",
        "import lakevec; print(not hasattr(lakevec, 'pipeline'))",
        "import lakevec; print(lakevec.load is lakevec.load and 'load' in vars(lakevec))",
    ],
    ids=["module", "package", "star", "untouched", "once"],
)
def test_facade_leaves_ordinary_imports_alone(code: str) -> None:
    assert run_code(code) == "True\n"


def test_loading_and_embedding_need_neither_spark_nor_torch_nor_pydantic(tiny_model: str) -> None:
    code = f"""
import json, sys
import lakevec
model = lakevec.load({tiny_model!r})
loaded = {{name.split(".")[0] for name in sys.modules}}
vectors = model.encode(["north east", None]).tolist()
used = {{name.split(".")[0] for name in sys.modules}}
print(json.dumps([vectors, sorted(loaded), sorted(used)]))
"""
    vectors, loaded, used = json.loads(run_code(code))
    assert vectors == [[0.5, 0.5], [0, 0]]
    assert not {"numba", "pyspark", "torch", "pydantic", "pandas"} & set(loaded)
    assert not {"pyspark", "torch", "pydantic"} & set(used)


def test_public_names_come_from_an_archive_and_travel_by_name(tiny_model: str, tmp_path: Path) -> None:
    """As on an executor that was sent lakevec's code."""
    (tmp_path / "lakevec.zip").write_bytes(build_code_archive())
    code = f"""
import sys
import lakevec
from pyspark import cloudpickle
model = lakevec.load({tiny_model!r})
print(".zip" in lakevec.__file__, len(cloudpickle.dumps(lakevec.load)) < 200)
print(cloudpickle.loads(cloudpickle.dumps(lambda: lakevec.StaticTable))() is lakevec.StaticTable)
print(model.encode(["north"]).tolist())
"""
    archive = str(tmp_path / "lakevec.zip")
    assert run_code(code, PYTHONPATH=archive, NUMBA_CACHE_DIR=str(tmp_path)).split("\n")[:3] == [
        "True True",
        "True",
        "[[0.0, 1.0]]",
    ]


def test_documents_import_public_names_only() -> None:
    found = [
        (document.name, name)
        for document in DOCUMENTS
        for names in re.findall(r"from lakevec import ([\w, ]+)", document.read_text())
        for name in names.split(", ")
    ] + [
        (document.name, name)
        for document in DOCUMENTS
        for name in re.findall(r"\blakevec\.(\w+)\(", document.read_text())
    ]
    assert [entry for entry in found if entry[1] not in lakevec.__all__] == []
