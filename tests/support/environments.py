"""Virtual environments of tests, such as that of the thin client, and a Spark Connect server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import short_java
from tests.support.paths import ROOT

_FOLDER = ROOT / ".venv-connect"
_START_S = 120.0
_SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"


def make_environment(venv: Path, *words: str) -> Path:
    """A new environment that borrows all packages of this one, less lakevec."""
    subprocess.run([sys.executable, "-m", "venv", *words, str(venv)], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(venv)})
    # Only the .pth files of its own folder count, so the editable lakevec stays out.
    Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def make_thin_client() -> Path:
    """Make the environment of ``pip install 'lakevec[connect]'``, without a JVM; return its Python.

    pip installs the client. The other packages are links to those of this environment.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["connect"]
    installed = sorted(f"{package.name} {package.version}" for package in distributions())
    state = json.dumps([sys.version, extra, installed])
    python, done = _FOLDER / "bin" / "python", _FOLDER / "done.json"
    if done.exists() and done.read_text() == state:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(_FOLDER)], check=True)
    words = ["install", "--quiet", "--no-deps", "--constraint", str(ROOT / "constraints.txt"), *extra]
    subprocess.run([str(python), "-m", "pip", *words], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(_FOLDER)}))
    [client] = distributions(name="pyspark-client", path=[str(site)])
    for package in _required([*project["dependencies"], *(client.requires or [])]):
        _link(package, site)
    (site / "checkout.pth").write_text(f"{ROOT}\n")
    command = python.with_name("lakevec")
    command.write_text(f"#!{python}\nimport sys\nfrom lakevec.jobs.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    done.write_text(state)
    return python


def _required(requirements: list[str]) -> list[Distribution]:
    """Return this environment's packages that satisfy requirements, and those that they require."""
    found: dict[str, Distribution] = {}
    waiting = list(map(Requirement, requirements))
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found[name] = distribution(name)
            waiting += map(Requirement, found[name].requires or [])
    return list(found.values())


def _link(package: Distribution, site: Path) -> None:
    """Link a package's folders and files of top level."""
    for name in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
        if not (site / name).exists():
            (site / name).symlink_to(Path(str(package.locate_file(name))))


def client_environment(python: Path) -> dict[str, str]:
    """Return the environment of a machine without Java and without settings of Spark."""
    names = ("HOME", "TMPDIR", "LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NUMBA_CACHE_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "PATH": str(python.parent), "OMP_NUM_THREADS": "1"}


@contextmanager
def connect_server(python: str, folder: Path) -> Iterator[str]:
    """Start a Spark Connect server in a folder, with the Python of its workers; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = {
        "spark.connect.grpc.binding.port": port,
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": 2,
    }
    words = [str(short_java.HOME / "bin" / "spark-submit"), "--master", "local[2]", "--class", _SERVER]
    words += [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"SPARK_HOME": str(short_java.HOME), "PYSPARK_PYTHON": python, **short_java.ENVIRONMENT}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(server, port, folder / "server.log")
        yield f"sc://localhost:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.1)
