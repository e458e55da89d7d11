"""A standalone cluster of two hosts, which are addresses of this machine.

Spark starts a speculative copy of a task only on a host without an attempt of that task. All executors of a
``local-cluster`` are on one host, so it can't test speculation.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

_PACKAGE = "org.apache.spark.deploy"
_START_S = 60.0


class Cluster:
    """A master, and a worker on each host; they run until `stop`.

    Parameters
    ----------
    home : Path
        Spark's installation.
    folder : Path
        Folder for logs and for the executors' folders.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = home, folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = ""

    @property
    def pids(self) -> list[int]:
        """Ids of the master and the workers, the ancestors of executors."""
        return [process.pid for process in self._processes]

    def start(self) -> None:
        self._folder.mkdir(parents=True)
        self._start("master", "master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        self.url = self._wait_for("master", r"spark://127\.0\.0\.1:\d+")
        for number in (1, 2):
            # More cores than one job takes, so that several jobs can run.
            words = ["--host", f"127.0.0.{number}", "--cores", "4", "--memory", "8g", "--webui-port", "0"]
            name = f"worker-{number}"
            self._start(name, "worker.Worker", *words, "--work-dir", str(self._folder / name), self.url)
            self._wait_for(name, "registered with master")

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    def _start(self, name: str, what: str, *words: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
        environment = {
            **kept,
            "SPARK_HOME": str(self._home),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        command = [str(self._home / "bin" / "spark-class"), f"{_PACKAGE}.{what}", *words]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _wait_for(self, name: str, pattern: str) -> str:
        log = self._folder / f"{name}.log"
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if found := re.search(pattern, log.read_text(), re.IGNORECASE):
                return found[0]
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"Spark's {name} does not start: {log.read_text()[-2000:]}")
