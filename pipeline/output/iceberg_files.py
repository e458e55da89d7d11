"""The data files of an Iceberg table: which it has, which have deleted rows, and descriptions of new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lakevec.pipeline.errors import DamagedOutputError
from lakevec.pipeline.output.iceberg_schema import find_field_ids
from lakevec.pipeline.output.partitions import partition_values
from lakevec.pipeline.output.validation import THREADS
from lakevec.pipeline.storage import Location

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile, ManifestEntry
    from pyiceberg.table import Table

# Id of the column of a delete file that names data files.
_PATH_ID = 2147483546


@dataclass(frozen=True)
class TableFiles:
    """The data files of a table.

    Parameters
    ----------
    files : dict of str to pyiceberg.manifest.DataFile
        By their names below the table; of files elsewhere, by their whole locations.
    marked : frozenset of str
        Files of which rows may be marked as deleted.
    """

    files: dict[str, DataFile]
    marked: frozenset[str]

    @property
    def whole(self) -> dict[str, DataFile]:
        """The files without a deleted row."""
        return {name: file for name, file in self.files.items() if name not in self.marked}


def read_files(table: Table, place: str) -> TableFiles:
    """Read which files a table has, and which of them have deleted rows.

    Notes
    -----
    pyiceberg plans no scan of a table with equality deletes, so this reads the manifests.
    """
    from pyiceberg.manifest import DataFileContent

    if (snapshot := table.current_snapshot()) is None:
        return TableFiles({}, frozenset())
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda each: each.fetch_manifest_entry(table.io), snapshot.manifests(table.io))
        entries = [entry for part in parts for entry in part]
    data = {
        entry.data_file.file_path.removeprefix(f"{place}/"): entry
        for entry in entries
        if entry.data_file.content == DataFileContent.DATA
    }
    deletes = [entry for entry in entries if entry.data_file.content != DataFileContent.DATA]
    return TableFiles(
        {name: entry.data_file for name, entry in data.items()}, frozenset(_find_marked(data, deletes))
    )


def _find_marked(data: Mapping[str, ManifestEntry], deletes: Sequence[ManifestEntry]) -> Iterator[str]:
    """Yield the files that a delete file may mark."""
    from pyiceberg.manifest import DataFileContent

    newest, paths, ranges = 0, set(), []
    for entry in deletes:
        number, delete = entry.sequence_number or 0, entry.data_file
        lowest = (delete.lower_bounds or {}).get(_PATH_ID)
        highest = (delete.upper_bounds or {}).get(_PATH_ID)
        if delete.content == DataFileContent.EQUALITY_DELETES:
            newest = max(newest, number)
        elif lowest is not None and lowest == highest:
            paths.add(lowest)
        else:
            ranges.append((number, lowest or b"", highest))
    for name, entry in data.items():
        number, path = entry.sequence_number or 0, entry.data_file.file_path.encode()
        if (
            number < newest  # equality deletes hold for earlier commits only
            or path in paths
            or any(
                number <= commit and lowest <= path and (highest is None or path <= highest)
                for commit, lowest, highest in ranges
            )
        ):
            yield name


class Describer:
    """Describes files of an output for a table's manifests.

    Parameters
    ----------
    metadata : pyiceberg.table.metadata.TableMetadata
        The table's.
    location : Location
        The output.
    place : str
        Location of the table.
    """

    def __init__(self, metadata: Any, location: Location, place: str) -> None:
        from pyiceberg.io.pyarrow import (
            MetricModeTypes,
            MetricsMode,
            compute_statistics_plan,
            parquet_path_to_id_mapping,
        )

        self._metadata, self._location, self._place = metadata, location, place
        schema = metadata.schema()
        self._spec = metadata.spec()
        self._kinds = {
            name: schema.find_type(field.source_id)
            for field in self._spec.fields
            if (name := schema.find_column_name(field.source_id))
        }
        self._ids = parquet_path_to_id_mapping(schema)
        # Vectors have no statistics, and no reader asks for those of other nested values.
        nested = {number for path, number in self._ids.items() if "." in path}
        nothing = MetricsMode(MetricModeTypes.NONE)
        self._plan = {
            number: replace(collector, mode=nothing) if number in nested else collector
            for number, collector in compute_statistics_plan(schema, metadata.properties).items()
        }

    def check_columns(self, name: str) -> None:
        """Raise DamagedOutputError if the columns of a file are not those of the table any more."""
        from pyiceberg.io.pyarrow import pyarrow_to_schema

        file = self._location / name
        found = pyarrow_to_schema(pq.read_schema(file.path, filesystem=file.filesystem))
        if find_field_ids(found, self._metadata.schema()) != find_field_ids(found, found):
            raise DamagedOutputError(
                "another program replaced columns of the Iceberg table",
                got="other field ids than those of the files",
                remedy="run again, or rewrite the output with --full-refresh",
            )

    def __call__(self, name: str, size: int) -> DataFile:
        """Describe a file, with the statistics of its footer."""
        from pyiceberg.expressions.literals import literal
        from pyiceberg.io.pyarrow import data_file_statistics_from_parquet_metadata
        from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
        from pyiceberg.typedef import Record

        file = self._location / name
        footer = pq.read_metadata(file.path, filesystem=file.filesystem)
        statistics = data_file_statistics_from_parquet_metadata(footer, self._plan, self._ids)
        values = partition_values(name, list(self._kinds))
        partition = [
            None if value is None else literal(value).to(self._kinds[column]).value
            for column, value in values.items()
        ]
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=f"{self._place}/{name}",
            file_format=FileFormat.PARQUET,
            partition=Record(*partition),
            file_size_in_bytes=size,
            sort_order_id=None,
            spec_id=self._spec.spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
