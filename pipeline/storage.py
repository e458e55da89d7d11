"""Paths and URIs: the pyarrow filesystem of a name, and its path there.

No other module interprets schemes such as ``s3a://`` or ``file:``. All others take a `Location`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from pyarrow import ArrowException
from pyarrow import fs as pafs

from lakevec.pipeline.azure_names import SCHEMES, read_azure_name
from lakevec.pipeline.errors import OutputError, UsageError, describe_failure, rephrase
from lakevec.pipeline.redaction import split_user

# Schemes that Hadoop knows and pyarrow doesn't.
_SCHEMES = {"s3a": "s3", "s3n": "s3"}
# Hadoop also accepts hdfs:/path, without a host.
_SCHEME = re.compile(r"file:|[A-Za-z][A-Za-z0-9+.-]+:/")
_NO_LINKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EMLINK)


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
        """Whether this machine has mounted the filesystem."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def can_rename_folders(self) -> bool:
        """Whether the filesystem renames a folder in one step; object stores can't."""
        return isinstance(self.filesystem, pafs.LocalFileSystem | pafs.HadoopFileSystem)

    def __truediv__(self, name: str) -> Location:
        """Return the location of `name` below this one."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def type(self) -> pafs.FileType:
        """Return whether this is a file, a folder, or not found."""
        return self.filesystem.get_file_info(self.path).type

    def exists(self) -> bool:
        """Return whether a file or a folder exists here."""
        return bool(self.type() != pafs.FileType.NotFound)

    def read_bytes(self) -> bytes:
        """Return the file's content."""
        with self.filesystem.open_input_stream(self.path) as stream:
            content: bytes = stream.read()
        return content

    def write_bytes(self, content: bytes) -> None:
        """Write or replace the file; its folder must exist."""
        with self.filesystem.open_output_stream(self.path, compression=None) as stream:
            stream.write(content)

    def write_atomic(self, content: bytes) -> None:
        """Write or replace the file so that readers see its old or its new content; create its folder.

        A write to an object store is one step, and so is a local rename. HDFS can't rename over a file, so an
        existing file is written in place there.
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

    def link_to(self, target: Location) -> bool:
        """Make a hard link to this local file at `target`; return False if the file system has no links."""
        try:
            os.link(self.path, target.path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        return True

    def delete(self) -> None:
        """Remove the file, or the folder with its content, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            if (kind := self.type()) == pafs.FileType.Directory:
                self.filesystem.delete_dir(self.path)
            elif kind == pafs.FileType.File:
                self.filesystem.delete_file(self.path)

    def delete_if_empty(self) -> None:
        """Remove the folder unless it holds something."""
        if self.exists() and not self.list():
            self.delete()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Location:
        """The folder that contains this location."""
        return Location(self.filesystem, self.path.rstrip("/").rpartition("/")[0])

    def list(self, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """List the folder; return an empty list if it doesn't exist."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found: list[pafs.FileInfo] = self.filesystem.get_file_info(selector)
        return found

    def names(self) -> set[str]:
        """Return the names of the files and folders in the folder."""
        return {info.base_name for info in self.list()}

    def files(self) -> set[str]:
        """Return the paths of all files below the folder, relative to it."""
        found = self.list(recursive=True)
        return {info.path.removeprefix(f"{self.path}/") for info in found if info.type == pafs.FileType.File}


def absolute_uri(name: str) -> str:
    """Return a URI unchanged, or a local path as an absolute one."""
    if _SCHEME.match(name):
        return name
    # Unlike pathlib, os.path keeps ~name of an unknown user.
    return str(Path(os.path.expanduser(name)).absolute())  # noqa: PTH111


def is_local_path(uri: str) -> bool:
    """Return whether a name from `absolute_uri` is a path on this machine."""
    return uri.startswith(("/", "file:"))


def canonical_uri(uri: str) -> str:
    """Return one name for all spellings of a location, so that names can be compared.

    Parameters
    ----------
    uri : str
        From `absolute_uri`.

    Returns
    -------
    str
        A local path without ``file:``, ``..`` and symbolic links, or a URI without credentials. Its scheme
        is ``s3`` instead of ``s3a`` and ``s3n``, and ``abfs`` instead of Azure's others.

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
    """Remove user and password from a URI, but keep Azure's container, as Hadoop requires.

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
    """Find the filesystem of a path or URI, whether or not anything exists there.

    Parameters
    ----------
    name : str
        A local path, or a URI that pyarrow knows. ``s3a://`` is read as ``s3://``.
    error : type
        Class of the error if the scheme is unknown or the filesystem can't be set up.
    """
    uri = absolute_uri(name)
    scheme, separator, rest = uri.partition("://")
    if (azure := read_azure_name(uri)) is not None:
        uri = azure.for_pyarrow()
    elif separator:
        uri = f"{_SCHEMES.get(scheme, scheme)}://{rest}"
    elif uri.startswith("file:"):
        uri = f"file://{Path(uri.removeprefix('file:')).absolute()}"
    expected = "a local path or a URI such as s3://, gs://, abfs://, hdfs:// or file:///"
    with rephrase(error, f"can't reach {name!r}", on=(ArrowException, OSError), expected=expected):
        return Location(*pafs.FileSystem.from_uri(uri))


def require_free(
    uri: str, what: str, *, expected: str = "a place where nothing exists", option: str = "--output"
) -> Location:
    """Locate a new output; raise OutputError if something exists there, or if that can't be checked.

    Parameters
    ----------
    uri : str
    what : str
        Subject of the message, as in "model output".
    expected : str, optional
    option : str, default="--output"
        The option that named the place.
    """
    location = locate(uri, error=OutputError)
    with rephrase(OutputError, f"can't look at {uri!r}", on=OSError, describe=describe_failure):
        exists = location.exists()
    if exists:
        raise OutputError(
            f"{what} {uri!r} exists", expected=expected, remedy=f"choose another {option}, or remove it first"
        )
    return location
