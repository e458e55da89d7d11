"""jobs -> udfs -> pipeline, and nothing heavy where it does not belong: checked in fresh processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

HEAVY = {"torch", "transformers", "sklearn", "skeletoken", "huggingface_hub"}
SPARK = {"pyspark", "lakevec.udfs", "lakevec.jobs"}
# Wings that only the jobs they are for may import, and those late.
LATE = {"distillation", "evaluation", "tuning", "fitting", "figures"}


def modules_of(package: str) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(("lakevec", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


PIPELINE = modules_of("pipeline")


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ([name for name in PIPELINE if not LATE & set(name.split("."))], SPARK | HEAVY),
        ([name for name in PIPELINE if {"distillation", "tuning"} & set(name.split("."))], SPARK),
        ([name for name in PIPELINE if ".evaluation." in name], SPARK | HEAVY - {"sklearn"}),
        ([name for name in PIPELINE if ".heads." in name], SPARK | HEAVY - {"sklearn"}),
        (["lakevec.pipeline.tuning.teacher_shards", "lakevec.udfs.teacher_task"], {"lakevec.jobs"} | HEAVY),
        (modules_of("udfs"), {"lakevec.jobs", "pydantic"} | HEAVY),
        (
            ["lakevec.udfs.embed_task", "lakevec.udfs.count_task", "lakevec.udfs.distribution"],
            {"lakevec.jobs", "pyspark", "pandas"},
        ),
        (["lakevec.jobs.embed"], {"pyspark", "numba", "pandas"}),
        (["lakevec.jobs.search", "lakevec.jobs.export"], {"pyspark", "numba", "pandas"}),
        (["lakevec.jobs.embedding.execution"], {"pandas"}),
        (modules_of("jobs"), HEAVY),
        (["lakevec"], {"lakevec.pipeline", "lakevec.udfs", "lakevec.jobs", "pyspark", "numpy", "pydantic"}),
    ],
    ids=[
        "pipeline",
        "distillation and tuning",
        "evaluation",
        "heads",
        "teacher task",
        "udfs",
        "tasks",
        "embed before Spark",
        "search and export",
        "embed on Spark",
        "jobs",
        "lakevec",
    ],
)
def test_modules_import_nothing_of_upper_layers_and_nothing_heavy(
    modules: list[str], forbidden: set[str]
) -> None:
    """Of the modules of a layer, imported one behind the other, each must leave the process clean."""
    code = f"""
import importlib, json, sys
found = {{}}
for module in {modules!r}:
    before = set(sys.modules)
    importlib.import_module(module)
    for name in set(sys.modules) - before:
        parts = name.split(".")
        found.setdefault(".".join(parts[: 2 if parts[0] == "lakevec" else 1]), module)
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {name: found[name] for name in forbidden & set(found)} == {}


def test_output_wing_knows_no_model_and_evaluation_order_holds() -> None:
    """Arrows between wings: distillation -> corpus -> encoding -> model; output knows none of them."""
    allowed = {
        "distillation": {"distillation", "corpus", "model"},
        "corpus": {"corpus", "encoding", "model", "output"},  # the lease
        "evaluation": {"evaluation", "encoding", "model"},
        "tuning": {"tuning", "distillation", "corpus", "evaluation", "encoding", "model"},
        "heads": {"heads", "encoding", "model"},
        "model": {"model"},
        "encoding": {"encoding", "model"},
        "output": {"output"},
        "reading": {"reading", "output", "encoding"},
    }
    # A model embeds texts and describes its split rule; nothing that encoding imports imports these at start.
    # Teachers and ablations are evaluated by their own code, which is imported late.
    upward = {("artifact.py", "encoding"), ("description.py", "encoding")}
    upward |= {("embedding_model.py", "distillation"), ("evaluation.py", "distillation")}
    for wing, reachable in allowed.items():
        for file in (ROOT / "pipeline" / wing).rglob("*.py"):
            source = file.read_text()
            used = {other for other in allowed if f"from lakevec.pipeline.{other}" in source}
            excess = {(file.name, other) for other in used - reachable}
            assert excess <= upward, f"{file.name} uses {sorted(used - reachable)}"


def test_kernels_import_no_other_part_of_the_encoder() -> None:
    """Compiled functions over arrays and NamedTuples; what makes their tables lies outside."""
    for file in (ROOT / "pipeline" / "encoding" / "kernels").glob("*.py"):
        used = set(re.findall(r"^from (lakevec\.[\w.]+) import", file.read_text(), re.MULTILINE))
        others = {name for name in used if not name.startswith("lakevec.pipeline.encoding.kernels.")}
        assert others <= {"lakevec.pipeline.errors", "lakevec.pipeline.local_files"}, file.name
