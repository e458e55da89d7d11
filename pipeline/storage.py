"""Paths and URIs: which pyarrow filesystem a name belongs to, and its path there.

The only module that decides what ``s3a://`` or ``file:`` means; everything else gets a filesystem and a path.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from pyarrow import ArrowException
from pyarrow import fs as pafs

from lakevec.pipeline.azure_names import SCHEMES, read_azure_name
from lakevec.pipeline.errors import OutputError, UsageError, describe_failure, one_line
from lakevec.pipeline.redaction import redact, split_user

# Hadoop's names for stores that pyarrow knows under another one.
_SCHEMES = {"s3a": "s3", "s3n": "s3"}
# Hadoop also takes hdfs:/path, without a host.
_SCHEME = re.compile(r"file:|[A-Za-z][A-Za-z0-9+.-]+:/")


@dataclass(frozen=True)
class Location:
    """A place on a filesystem that pyarrow can reach.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Local disk, HDFS, S3, Google Cloud Storage or Azure.
    path : str
        Path on that filesystem, without scheme.
    """

    filesystem: pafs.FileSystem
    path: str

    @property
    def is_local(self) -> bool:
        """Whether the place is on a filesystem mounted on this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def can_rename_folders(self) -> bool:
        """Whether a whole folder can be moved in one step; object stores can't."""
        return isinstance(self.filesystem, pafs.LocalFileSystem | pafs.HadoopFileSystem)

    def __truediv__(self, name: str) -> Location:
        """Return the place `name` below this one."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def type(self) -> pafs.FileType:
        """Return whether a file, a folder or nothing is there."""
        return self.filesystem.get_file_info(self.path).type

    def exists(self) -> bool:
        """Return whether a file or a folder is there."""
        return bool(self.type() != pafs.FileType.NotFound)

    def read_bytes(self) -> bytes:
        """Return the whole content of the file."""
        with self.filesystem.open_input_stream(self.path) as stream:
            content: bytes = stream.read()
        return content

    def write_bytes(self, content: bytes) -> None:
        """Write the file, replacing what was there; the folder must exist."""
        with self.filesystem.open_output_stream(self.path, compression=None) as stream:
            stream.write(content)

    def write_atomic(self, content: bytes) -> None:
        """Write the file so that whoever reads it sees the old content or the new one, and make its folder.

        Object stores do that by themselves, and so does a local rename; HDFS has no rename over a file, so
        a file that is there already is written in place.
        """
        self.filesystem.create_dir(self.parent.path, recursive=True)
        is_there = self.type() == pafs.FileType.File
        if isinstance(self.filesystem, pafs.HadoopFileSystem) and is_there:
            self.write_bytes(content)
        elif self.can_rename_folders:
            beside = self.parent / f".{self.name}.{uuid.uuid4().hex[:8]}"
            beside.write_bytes(content)
            self.filesystem.move(beside.path, self.path)
        else:
            self.write_bytes(content)

    def delete(self) -> None:
        """Remove the file or the folder with all that it holds; nothing there is no error."""
        with contextlib.suppress(FileNotFoundError):
            if (kind := self.type()) == pafs.FileType.Directory:
                self.filesystem.delete_dir(self.path)
            elif kind == pafs.FileType.File:
                self.filesystem.delete_file(self.path)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Location:
        """The folder that the place lies in."""
        return Location(self.filesystem, self.path.rstrip("/").rpartition("/")[0])

    def list(self, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """Return what lies in the folder, empty where there is no folder."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found: list[pafs.FileInfo] = self.filesystem.get_file_info(selector)
        return found


def absolute_uri(name: str) -> str:
    """Return `name` so that it means the same on every machine and in every working directory.

    Parameters
    ----------
    name : str
        A local path, relative or not, or a URI.

    Returns
    -------
    str
        The URI as it was, or the absolute local path.
    """
    if _SCHEME.match(name):
        return name
    try:
        return str(Path(name).expanduser().absolute())
    except RuntimeError:  # of a user who is not there
        return str(Path(name).absolute())


def is_local_path(uri: str) -> bool:
    """Say whether a name that `absolute_uri` returned is a path on this machine."""
    return uri.startswith(("/", "file:"))


def canonical_uri(uri: str) -> str:
    """Return the one name of a place that has several: for comparing, and for files also for reading.

    Parameters
    ----------
    uri : str
        As `absolute_uri` returns it.

    Returns
    -------
    str
        Local paths without ``file:``, ``..`` and symbolic links; URIs without credentials, and with ``s3``
        for Hadoop's other names of it, as ``abfs`` for those of Azure.

    Examples
    --------
    >>> canonical_uri("s3a://key:secret@bucket/lake/"), canonical_uri("file:///lake/../docs")
    ('s3://bucket/lake', '/docs')
    """
    scheme, separator, rest = uri.partition("://")
    if uri.startswith("file:"):
        separator, uri = "", "/" + uri.removeprefix("file:").lstrip("/")
    if not separator:
        return os.path.realpath(uri)
    if (place := read_azure_name(uri)) is not None:
        return place.for_hadoop("abfs").rstrip("/")
    return strip_user_info(f"{_SCHEMES.get(scheme, scheme)}://{rest}").rstrip("/")


def strip_user_info(uri: str) -> str:
    """Remove user and password from a URI.

    Parameters
    ----------
    uri : str

    Returns
    -------
    str
        As Hadoop takes it: Azure's container stays.

    Examples
    --------
    >>> strip_user_info("s3://key:se/cret@bucket/lake")
    's3://bucket/lake'
    >>> strip_user_info("abfs://box:k@account.dfs.core.windows.net/lake")
    'abfs://box@account.dfs.core.windows.net/lake'
    """
    scheme, separator, rest = uri.partition("://")
    if (azure := read_azure_name(uri)) is not None:
        return azure.for_hadoop(scheme)
    user, place = split_user(scheme, rest)
    if not separator or user is None:
        return uri
    container = f"{user.partition(':')[0]}@" if scheme in SCHEMES and not user.startswith(":") else ""
    return f"{scheme}://{container}{place}"


def locate(name: str, *, error: type[UsageError]) -> Location:
    """Find the filesystem of a path or URI; nothing needs to exist there yet.

    Parameters
    ----------
    name : str
        A local path or any URI that pyarrow's filesystems know; ``s3a://`` is read as ``s3://``.
    error : type
        The error to raise, so that it names what the caller was looking for.

    Returns
    -------
    Location

    Raises
    ------
    UsageError
        Of the given type, if the scheme is unknown or the filesystem can't be set up.
    """
    uri = absolute_uri(name)
    scheme, separator, rest = uri.partition("://")
    if (azure := read_azure_name(uri)) is not None:
        uri = azure.for_pyarrow()
    elif separator:
        uri = f"{_SCHEMES.get(scheme, scheme)}://{rest}"
    elif uri.startswith("file:"):
        uri = f"file://{Path(uri.removeprefix('file:')).absolute()}"
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (ArrowException, OSError) as reason:
        raise error(
            f"can't reach {redact(name)!r}",
            got=one_line(reason),
            expected="a local path or a URI such as s3://, gs://, abfs://, hdfs:// or file:///",
        ) from None
    return Location(filesystem, path)


def require_free(uri: str, what: str, *, expected: str = "a place where nothing exists") -> Location:
    """Return the place of a new output, before any long work.

    Parameters
    ----------
    uri : str
        Folder or URI.
    what : str
        Subject of the message, as in "model output".
    expected : str, optional

    Raises
    ------
    OutputError
        If something exists there, or the place can't be reached.
    """
    place = locate(uri, error=OutputError)
    try:
        taken = place.exists()
    except OSError as error:
        raise OutputError(f"can't look at {uri!r}", got=describe_failure(error)) from None
    if taken:
        raise OutputError(
            f"{what} {uri!r} exists", expected=expected, remedy="choose another --output, or remove it first"
        )
    return place
