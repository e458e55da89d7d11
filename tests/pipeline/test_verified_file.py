"""Files with Hadoop's checksums beside them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from lakevec.pipeline.verified_file import VerifiedFile

CONTENT = bytes(range(256)) * 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(CONTENT)
    sums = [zlib.crc32(CONTENT[start : start + 512]) for start in range(0, len(CONTENT), 512)]
    (tmp_path / ".a.crc").write_bytes(b"crc\0" + struct.pack(f">I{len(sums)}I", 512, *sums))
    return tmp_path / "a"


def checksums(file: Path) -> Path:
    return file.with_name(f".{file.name}.crc")


@pytest.mark.parametrize("place", [0, 1, 511, 512, 1000, 1279, 1280, 2000])
@pytest.mark.parametrize("size", [-1, 0, 1, 513, 5000])
def test_reads_are_those_of_the_file(file: Path, place: int, size: int) -> None:
    with VerifiedFile(file, checksums(file)) as verified, file.open("rb") as plain:
        verified.seek(place)
        plain.seek(place)
        assert (verified.read(size), verified.tell()) == (plain.read(size), plain.tell())


def test_changed_byte_fails_the_reads_that_touch_its_chunk(file: Path) -> None:
    content = bytearray(CONTENT)
    content[600] ^= 1
    file.write_bytes(content)
    with VerifiedFile(file, checksums(file)) as verified:
        assert verified.read(512) == CONTENT[:512]
        with pytest.raises(OSError, match="content that differs from its checksum"):
            verified.read(1)


@pytest.mark.parametrize(
    "damaged", [b"", b"crc\0\0\0\0\0", b"crd\0\0\0\2\0" + bytes(12)], ids=["empty", "unit", "magic"]
)
def test_damaged_checksums_are_refused(file: Path, damaged: bytes) -> None:
    checksums(file).write_bytes(damaged)
    with pytest.raises(OSError, match="damaged checksum file"):
        VerifiedFile(file, checksums(file))


def test_missing_checksums_fail_the_read(file: Path) -> None:
    checksums(file).write_bytes(checksums(file).read_bytes()[:-4])
    with VerifiedFile(file, checksums(file)) as verified, pytest.raises(OSError, match="too short"):
        verified.read()
