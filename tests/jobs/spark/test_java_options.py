"""Java's options of a Spark that lakevec starts: an archive of Spark's classes, and what the user says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lakevec.jobs.spark.java import Java, ensure_java
from lakevec.jobs.spark.java_options import LATE_OPTIMISATION, archive_options, find_spark, short_start
from tests.support.paths import IS_WHOLE

FINISHED = b"\xa8\xba\x0b\xf0 content"
pytest.importorskip("pyspark")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of archives, in a cache of its own; no options of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS", "JAVA_TOOL_OPTIONS", "SPARK_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "lakevec" / "spark-classes"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Spark with one jar."""
    (tmp_path / "spark" / "jars").mkdir(parents=True)
    (tmp_path / "spark" / "jars" / "core.jar").write_bytes(b"jar")
    return tmp_path / "spark"


@pytest.fixture
def java(tmp_path: Path) -> Java:
    (tmp_path / "java" / "bin").mkdir(parents=True)
    (tmp_path / "java" / "bin" / "java").write_bytes(b"17")
    (tmp_path / "java" / "lib" / "server").mkdir(parents=True)
    (tmp_path / "java" / "lib" / "server" / "classes.jsa").write_bytes(b"base")
    return Java(str(tmp_path / "java"), 17, "test")


def path_in(options: list[str], name: str) -> Path:
    """The path of an option such as ``-XX:SharedArchiveFile="/path"``."""
    [found] = [option for option in options if option.startswith(f"-XX:{name}=")]
    return Path(found.partition("=")[2].strip('"'))


def test_first_run_writes_an_archive_and_later_ones_read_it(java: Java, home: Path, cache: Path) -> None:
    made = path_in(archive_options(java, home), "ArchiveClassesAtExit")
    assert made.parent == cache
    made.write_bytes(FINISHED)
    archive = path_in(archive_options(java, home), "SharedArchiveFile")
    assert archive.read_bytes() == FINISHED
    assert list(cache.iterdir()) == [archive]


def test_runs_at_one_time_write_archives_of_their_own(java: Java, home: Path, cache: Path) -> None:
    made = [path_in(archive_options(java, home), "ArchiveClassesAtExit") for _ in range(2)]
    assert made[0] != made[1]
    for file in made:
        file.write_bytes(FINISHED)
    archive = path_in(archive_options(java, home), "SharedArchiveFile")
    path_in(archive_options(java, home), "SharedArchiveFile")
    assert archive.exists()


def test_two_sparks_keep_their_archives(java: Java, home: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "other")
    for place in (home, tmp_path / "other"):
        path_in(archive_options(java, place), "ArchiveClassesAtExit").write_bytes(FINISHED)
    for place in (home, tmp_path / "other"):
        path_in(archive_options(java, place), "SharedArchiveFile")


def drop_base(java: Java, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(java.home, "lib", "server", "classes.jsa").unlink()


def add_conf(java: Java, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "conf").mkdir()
    (home / "conf" / "core-site.xml").write_bytes(b"")


def add_hadoop_conf(java: Java, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(home))


def fill_disk(java: Java, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)._replace(free=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)


@pytest.mark.parametrize("change", [drop_base, add_conf, add_hadoop_conf, fill_disk])
def test_no_archive_is_asked_for_that_java_can_not_write(
    java: Java,
    home: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Java, Path, pytest.MonkeyPatch], None],
) -> None:
    assert archive_options(java, home)
    change(java, home, monkeypatch)
    assert archive_options(java, home) == []


def test_cache_that_others_can_write_is_not_used(
    java: Java, home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache.mkdir(parents=True)
    cache.parent.chmod(0o777)
    made = path_in(archive_options(java, home), "ArchiveClassesAtExit")
    assert made.is_relative_to(tmp_path / f"lakevec-{os.getuid()}")


def test_unfinished_archive_is_left_to_its_writer_for_an_hour(java: Java, home: Path, cache: Path) -> None:
    made = path_in(archive_options(java, home), "ArchiveClassesAtExit")
    made.write_bytes(b"\0" * 100)
    path_in(archive_options(java, home), "ArchiveClassesAtExit")
    assert made.exists()
    os.utime(made, (0, 0))
    path_in(archive_options(java, home), "ArchiveClassesAtExit")
    assert not made.exists()


def test_stale_archives_are_removed(java: Java, home: Path, cache: Path) -> None:
    archives = []
    for version in range(4):
        (home / "jars" / "core.jar").write_bytes(b"x" * version)
        path_in(archive_options(java, home), "ArchiveClassesAtExit").write_bytes(FINISHED)
        archives.append(path_in(archive_options(java, home), "SharedArchiveFile"))
        os.utime(archives[-1], (version, version))
    assert len(set(archives)) == 4
    assert sorted(cache.iterdir()) == sorted(archives[2:])


def change_java(java: Java, home: Path) -> None:
    Path(java.home, "bin", "java").write_bytes(b"17.1")


def add_jar(java: Java, home: Path) -> None:
    (home / "jars" / "more.jar").write_bytes(b"")


def touch_jar(java: Java, home: Path) -> None:
    os.utime(home / "jars" / "core.jar", (0, 0))


@pytest.mark.parametrize("change", [change_java, add_jar, touch_jar])
def test_archive_belongs_to_one_java_and_its_jars(
    java: Java, home: Path, cache: Path, change: Callable[[Java, Path], None]
) -> None:
    path_in(archive_options(java, home), "ArchiveClassesAtExit").write_bytes(FINISHED)
    change(java, home)
    path_in(archive_options(java, home), "ArchiveClassesAtExit")


def test_cache_that_can_not_be_written_is_replaced(
    java: Java, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = path_in(archive_options(java, home), "ArchiveClassesAtExit")
    assert made.is_relative_to(tmp_path / f"lakevec-{os.getuid()}")


# Where a user sets Java's options, and what lakevec leaves out then.
USERS = {
    "JAVA_TOOL_OPTIONS": ("-XX:SharedArchiveFile=mine", "ArchiveClasses"),
    "SPARK_SUBMIT_OPTS": ("-XX:Tier4CompileThreshold=7", "Tier4CompileThreshold=1"),
    "PYSPARK_SUBMIT_ARGS": ("--driver-java-options -Xshare:off", "ArchiveClasses"),
}


@pytest.mark.parametrize(("name", "told"), USERS.items(), ids=USERS)
def test_options_of_the_users_environment_win(
    java: Java, home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: tuple[str, str]
) -> None:
    options, left_out = told
    monkeypatch.setenv(name, options)
    with short_start(java, home, {}):
        assert left_out not in os.environ["SPARK_SUBMIT_OPTS"]
        assert LATE_OPTIMISATION[0] in os.environ["SPARK_SUBMIT_OPTS"]
        assert options in os.environ[name]
    assert os.environ[name] == options
    assert "SPARK_LAUNCHER_OPTS" not in os.environ


def test_options_of_sparks_properties_win(java: Java, home: Path, cache: Path) -> None:
    with short_start(
        java, home, {"spark.driver.extraJavaOptions": "-javaagent:x -XX:Tier4CompileThreshold=7"}
    ):
        ours = os.environ["SPARK_SUBMIT_OPTS"]
    assert "Archive" not in ours
    assert "Tier4CompileThreshold" not in ours
    (home / "conf").mkdir()
    (home / "conf" / "spark-defaults.conf").write_text("spark.driver.extraJavaOptions -Xshare:off")
    with short_start(java, home, {}):
        assert "Archive" not in os.environ["SPARK_SUBMIT_OPTS"]
    assert "SPARK_SUBMIT_OPTS" not in os.environ


@pytest.mark.parametrize(
    "content",
    [FINISHED, *[b"", b"\xa8\xba\x0b\xf0" + bytes(5000)] * IS_WHOLE],
    ids=["short", *["empty", "long"] * IS_WHOLE],
)
def test_spark_starts_with_a_broken_archive(cache: Path, content: bytes) -> None:
    """In a process of its own, for Java to start, which may write warnings to stdout."""
    archive = path_in(archive_options(ensure_java(), find_spark()), "ArchiveClassesAtExit")
    archive.with_name(f"{archive.name.partition('.')[0]}.jsa").write_bytes(content)
    code = (
        "from lakevec.jobs.spark.session import open_session\n"
        "with open_session('x', master='local[1]', conf={'spark.ui.enabled': 'false'}) as spark:\n"
        "    factory = spark._jvm.java.lang.management.ManagementFactory\n"
        "    print(spark.range(3).count(), factory.getRuntimeMXBean().getInputArguments())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("3 [")]
    # The broken one itself, or the test says nothing.
    assert f"{archive.name.partition('.')[0]}.jsa" in line
