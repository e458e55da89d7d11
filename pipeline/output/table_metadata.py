"""Properties that all rows of an output share, and the pointer to its current generation.

Each full refresh begins a new generation. A small file, the pointer, names the generation that readers see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from pyarrow.fs import FileType
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.storage import Location

CURRENT = "current.json"
# Pointer to the generation that a full refresh of a Delta or Iceberg table is building.
NEXT = "next.json"
_FILE = "output.json"
_VECTORS = (
    "fingerprint",
    "dimensions",
    "vector_type",
    "store",
    "max_tokens",
    "heads",
    "chunk_tokens",
    "chunk_overlap",
)
# Earlier versions refuse unknown keys, so `write` leaves these out where they have their defaults.
_LATER = (
    "time_zone",
    "chunk_tokens",
    "chunk_overlap",
    "catalog",
    "table",
    "heads",
    "head_uris",
    "has_vectors",
)


class TableMetadata(BaseModel):
    """Properties that an output's first run fixes for all later runs, stored as ``output.json``.

    Fields with a title must be equal in all runs. Messages name a field by its title.

    Parameters
    ----------
    generation : str
        Name of the generation; a full refresh begins a new one.
    model : str, default=""
        URI of the first run's model.
    columns : dict of str to str
        Embedding column of each text column.
    store : {"mean", "sum"}, default="mean"
        Whether a row holds the mean of its tokens' vectors, or their sum and count.
    heads : dict of str to str, default={}
        Fingerprint of each head, by its name.
    head_uris : dict of str to str, default={}
        Where the first run read each head.
    has_vectors : bool, default=True
        Whether rows hold vectors, and not only labels of heads.
    chunk_tokens : int or None, default=None
        Most tokens of a chunk, if each row is a chunk of a text.
    chunk_overlap : int or None, default=None
        Most tokens that a chunk repeats.
    schema_of_files : dict of str to str
        Name and type of all columns.
    key : str or None
        Column that identifies a row, if any.
    table_format : {"parquet", "delta", "iceberg"}
        Whether the folder, Delta's log or an Iceberg catalog lists the output's files.
    time_zone : str, default=""
        Time zone of partition folders named by timestamps. Empty without such folders, and in outputs
        of earlier versions.
    catalog, table : str, default=""
        Name of an Iceberg catalog in pyiceberg's configuration, and of the table there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    generation: str
    model: str = ""
    fingerprint: str = Field(title="model fingerprint")
    dimensions: int = Field(title="dimensions")
    columns: dict[str, str] = Field(title="text columns")
    vector_type: Literal["float32", "float16", "int8", "binary"] = Field(title="vector type")
    store: Literal["mean", "sum"] = Field("mean", title="store")
    max_tokens: int | None = Field(title="max tokens")
    heads: dict[str, str] = Field({}, title="heads")
    head_uris: dict[str, str] = {}
    has_vectors: bool = Field(True, title="vectors")
    chunk_tokens: int | None = Field(None, title="chunk tokens")
    chunk_overlap: int | None = Field(None, title="chunk overlap")
    schema_of_files: dict[str, str] = Field(title="columns")
    partition_by: tuple[str, ...] = Field(title="partition columns")
    key: str | None = Field(title="key")
    table_format: Literal["parquet", "delta", "iceberg"] = Field(title="table format")
    time_zone: str = Field("", title="time zone of partition folders")
    catalog: str = Field("", title="catalog")
    table: str = Field("", title="table")

    @property
    def names_in_files(self) -> list[str]:
        """Names of the columns that files hold; Iceberg's files hold their partition values."""
        apart = () if self.table_format == "iceberg" else self.partition_by
        return [name for name in self.schema_of_files if name not in apart]

    def differences(self, other: TableMetadata) -> Iterator[str]:
        """Yield each difference between `other` and this output, such as ``dimensions 64, not 32``."""
        for name, field in TableMetadata.model_fields.items():
            stored, asked = getattr(self, name), getattr(other, name)
            is_unknown = name == "time_zone" and not stored
            if field.title and stored != asked and not is_unknown:
                yield f"{field.title} {_show(asked)}, not {_show(stored)}"

    def is_other_model(self, other: TableMetadata) -> bool:
        """Return whether `other` differs in its vectors only."""
        ours = {name: getattr(self, name) for name in _VECTORS}
        differs = any(getattr(other, name) != value for name, value in ours.items())
        return differs and not any(self.differences(other.model_copy(update=ours)))

    def write(self, folder: Location) -> None:
        """Write ``output.json`` to the state folder of the generation."""
        fields = TableMetadata.model_fields
        excluded = {name for name in _LATER if getattr(self, name) == fields[name].default}
        (folder / _FILE).write_atomic(self.model_dump_json(indent=2, exclude=excluded).encode() + b"\n")


class _Pointer(BaseModel):
    generation: str = Field(pattern="^[A-Za-z0-9]+$")  # it names a folder


def read_metadata(output: Location) -> TableMetadata | None:
    """Read ``output.json`` of the current generation; return None for a new output."""
    generation = read_generation(output)
    return read_metadata_of(output, generation) if generation else None


def read_metadata_of(output: Location, generation: str) -> TableMetadata:
    """Read ``output.json`` of a generation."""
    try:
        metadata = TableMetadata.model_validate_json((state_folder(output, generation) / _FILE).read_bytes())
        return metadata.model_copy(update={"generation": generation})
    except (OSError, ValidationError) as error:
        raise _damaged(f"{type(error).__name__} from {_FILE}") from None


def state_folder(output: Location, generation: str) -> Location:
    """Return the folder that holds the state of a generation."""
    return output / OWN_FOLDER / generation


def read_generation(output: Location, pointer: str = CURRENT) -> str:
    """Return the generation that a pointer names; empty if there is no pointer."""
    file = output / OWN_FOLDER / pointer
    if not file.exists():
        return ""
    try:
        return _Pointer.model_validate_json(file.read_bytes()).generation
    except (OSError, ValidationError):
        raise _damaged(f"no name of a generation in {OWN_FOLDER}/{pointer}") from None


def write_generation(output: Location, generation: str, pointer: str = CURRENT) -> None:
    """Point to a generation."""
    (output / OWN_FOLDER / pointer).write_atomic(json.dumps({"generation": generation}).encode())


def remove_leftovers(output: Location) -> None:
    """Under the lease, remove half-written files of killed runs and generations without a pointer."""
    named = {read_generation(output, pointer) for pointer in (CURRENT, NEXT)}
    own = output / OWN_FOLDER
    folders = [own, own / "lease", *(own / name / part for name in named - {""} for part in (".", "log"))]
    for folder in folders:
        for info in folder.list():
            is_half_written = info.base_name.startswith(".") and info.type == FileType.File
            is_old = folder is own and info.base_name not in named and (own / info.base_name / _FILE).exists()
            if is_half_written or is_old:
                (folder / info.base_name).delete()


def is_foreign(folder: Location) -> bool:
    """Return whether a folder holds files of another program, or is a file."""
    return folder.type() == FileType.File or bool(folder.names() - {OWN_FOLDER})


def _damaged(got: str) -> OutputError:
    return OutputError(
        "the metadata of an output is damaged",
        got=got,
        expected="the file that an earlier run wrote",
        remedy="restore it, or embed into another --output",
    )


def _show(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {kind}" for key, kind in value.items()) + "}" if value else "none"
    if isinstance(value, tuple):
        return f"({', '.join(value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
