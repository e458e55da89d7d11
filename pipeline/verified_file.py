"""Local files with Hadoop's checksums beside them: Spark writes these, and verifies what it reads."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from zlib import crc32

_MAGIC = b"crc\0"
_HEADER_BYTES = 8


class VerifiedFile(io.RawIOBase):
    """A file to read; each read verifies the chunks that it touches.

    Parameters
    ----------
    path : pathlib.Path
    checksums : pathlib.Path
        Hadoop's checksum file: a magic, the bytes of a chunk, and a CRC-32 of each chunk.

    Raises
    ------
    OSError
        If the checksum file is damaged. Reads raise it if the content differs from its checksum.
    """

    def __init__(self, path: Path, checksums: Path) -> None:
        self._sums = checksums.read_bytes()
        self._unit = int.from_bytes(self._sums[len(_MAGIC) : _HEADER_BYTES])
        if not self._sums.startswith(_MAGIC) or self._unit < 1:
            raise OSError("damaged checksum file")
        self._file = path.open("rb")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Read and verify bytes."""
        place = self.tell()
        first, skipped = divmod(place, self._unit)
        self.seek(first * self._unit)
        chunks = -(-(skipped + size) // self._unit)
        content = memoryview(self._file.read(-1 if size < 0 else chunks * self._unit))
        self._verify(content, first)
        found = bytes(content[skipped : None if size < 0 else skipped + size])
        self.seek(place + len(found))
        return found

    def _verify(self, content: memoryview, first: int) -> None:
        """Verify chunks, the first of which has number `first`."""
        starts = range(0, len(content), self._unit)
        try:
            sums = struct.unpack_from(f">{len(starts)}I", self._sums, _HEADER_BYTES + 4 * first)
        except struct.error:
            raise OSError("checksum file that is too short") from None
        for start, known in zip(starts, sums, strict=True):
            if crc32(content[start : start + self._unit]) != known:
                raise OSError("content that differs from its checksum")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
