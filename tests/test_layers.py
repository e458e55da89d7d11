"""jobs -> udfs -> pipeline, and nothing heavy where it does not belong: checked in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HEAVY = {"torch", "transformers", "sklearn", "skeletoken", "huggingface_hub"}


def modules_of(package: str) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def imported_by(module: str, cwd: Path = ROOT) -> set[str]:
    """Top-level names in sys.modules after importing one module in a process of its own."""
    code = (
        f"import importlib, json, sys; importlib.import_module({module!r});"
        "print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", [m for m in modules_of("pipeline") if ".distillation." not in m])
def test_pipeline_module_imports_neither_spark_nor_upper_layers_nor_torch(module: str) -> None:
    assert not imported_by(module) & ({"pyspark", "udfs", "jobs"} | HEAVY)


@pytest.mark.parametrize("module", [m for m in modules_of("pipeline") if ".distillation." in m])
def test_distillation_module_imports_neither_spark_nor_upper_layers(module: str) -> None:
    assert not imported_by(module) & {"pyspark", "udfs", "jobs"}


@pytest.mark.parametrize("module", modules_of("udfs"))
def test_udfs_module_imports_neither_jobs_nor_torch_nor_pydantic(module: str) -> None:
    assert not imported_by(module) & ({"jobs", "pydantic"} | HEAVY)


@pytest.mark.parametrize("module", modules_of("jobs"))
def test_jobs_module_imports_no_torch(module: str) -> None:
    assert not imported_by(module) & HEAVY


def test_output_wing_knows_no_model_and_evaluation_order_holds() -> None:
    """Arrows between wings: distillation -> model <- encoding; output knows neither."""
    sources = {file: file.read_text() for file in (ROOT / "pipeline").rglob("*.py")}
    allowed = {
        "distillation": {"distillation", "model"},
        "model": {"model"},
        "encoding": {"encoding", "model"},
        "output": {"output"},
    }
    for wing, reachable in allowed.items():
        for file, source in sources.items():
            if file.parent.name != wing:
                continue
            used = {other for other in allowed if f"from pipeline.{other}" in source}
            assert used <= reachable, f"{file.name} uses {sorted(used - reachable)}"
