"""What all rows of one output share, so that no run mixes others in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.generation import CONTRACT
from lakevec.pipeline.storage import Location


class TableMetadata(BaseModel):
    """What the first run of an output laid down, kept as ``output.json``.

    Parameters
    ----------
    generation : str
        Name of this life of the output; a full refresh begins another one.
    model : str, default=""
        Where the first run found its model.
    fingerprint : str
        The model's.
    dimensions : int
        Length of a vector.
    columns : dict of str to str
        Text column and the name of its embedding column.
    vector_type : {"float32", "float16", "int8"}
        Elements of stored vectors.
    store : {"mean", "sum"}, default="mean"
        What is kept of a text: the mean of its tokens' rows, or their sum and number.
    max_tokens : int or None
        How many known tokens of a text are embedded.
    schema_of_files : dict of str to str
        Name and type of all columns.
    partition_by : tuple of str
        Columns whose values are folders.
    key : str or None
        Column of which the output holds every value once.
    table_format : {"parquet", "delta"}
        Who says which files are the output's: their folder, or Delta's log.
    time_zone : str, default=""
        Time zone of folders that are named by timestamps; empty where there are none, and in outputs that
        an earlier version began.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    generation: str
    model: str = ""
    fingerprint: str
    dimensions: int
    columns: dict[str, str]
    vector_type: Literal["float32", "float16", "int8"]
    store: Literal["mean", "sum"] = "mean"
    max_tokens: int | None
    schema_of_files: dict[str, str]
    partition_by: tuple[str, ...]
    key: str | None
    table_format: Literal["parquet", "delta"]
    time_zone: str = ""

    def differences(self, other: TableMetadata) -> Iterator[str]:
        """Say where `other` would not fit.

        Parameters
        ----------
        other : TableMetadata
            What a run is asked for.

        Yields
        ------
        str
            One difference, as ``what: theirs, here ours``.
        """
        for name, title in _TITLES.items():
            ours, theirs = getattr(self, name), getattr(other, name)
            is_unknown = name == "time_zone" and not ours
            if ours != theirs and not is_unknown:
                yield f"{title} {_show(theirs)}, there {_show(ours)}"

    def is_other_model(self, other: TableMetadata) -> bool:
        """Say whether `other` differs in nothing but what the vectors are."""
        same = {name: getattr(self, name) for name in _VECTORS}
        differs = any(getattr(other, name) != value for name, value in same.items())
        return differs and not list(self.differences(other.model_copy(update=same)))

    def write(self, folder: Location) -> None:
        """Lay the contract down in the state folder of its generation."""
        # Earlier versions read outputs that need no time zone.
        left_out = set() if self.time_zone else {"time_zone"}
        (folder / CONTRACT).write_atomic(self.model_dump_json(indent=2, exclude=left_out).encode() + b"\n")


_TITLES = {
    "table_format": "table format",
    "fingerprint": "model fingerprint",
    "dimensions": "dimensions",
    "columns": "text columns",
    "vector_type": "vector type",
    "store": "store",
    "max_tokens": "max tokens",
    "schema_of_files": "columns",
    "partition_by": "partition columns",
    "key": "key",
    "time_zone": "time zone of partition folders",
}


_VECTORS = ("fingerprint", "dimensions", "vector_type", "store", "max_tokens")


def read_metadata(folder: Location) -> TableMetadata:
    """Read what was laid down.

    Parameters
    ----------
    folder : Location
        State folder of the generation.

    Returns
    -------
    TableMetadata

    Raises
    ------
    OutputError
        If it is missing or damaged.
    """
    try:
        return TableMetadata.model_validate_json((folder / CONTRACT).read_bytes())
    except (OSError, ValidationError) as error:
        raise OutputError(
            "an output's contract can't be read",
            got=f"{type(error).__name__} from {CONTRACT}",
            expected="the file that the output's first run wrote",
            remedy="restore it, or embed into another --output",
        ) from None


def _show(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {kind}" for key, kind in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(value)})"
    return "none" if value is None else str(value)
