"""OpenLineage events of a run: its start, and its end with datasets, columns and rows."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lakevec import __version__
from lakevec.jobs.spark.overlap import GLOB
from lakevec.pipeline.errors import LakevecError, SetupError, describe_failure, one_line, requires_extra
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri, canonical_uri

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

_ENDPOINT = "api/v1/lineage"
_TIMEOUT_S = 5.0
# Object stores, with the scheme that stands for all spellings.
_SCHEMES = {"s3": "s3", "gs": "gs", "abfs": "abfss"}
# Options of a URI; a question mark alone stands for any character.
_QUERY = re.compile(r"\?\w+=")
_PRODUCER = f"urn:lakevec:{__version__}"


def lineage_run_id(run_id: str) -> str:
    """Return OpenLineage's id of a run: a UUID of version 5, always the same for a run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"lakevec:{run_id}"))


@dataclass
class Lineage:
    """The events of one run; they tell what is known by then.

    Parameters
    ----------
    settings : EmbedSettings
    run_id : str
    client : OpenLineageClient
    columns_read, columns_written : dict of str to str
        Name and type of columns, once they are known.
    table : tuple of str
        Namespace and name of an input table, once they are known.
    record : dict
        Content of ``run.json``, once it is known.
    """

    settings: EmbedSettings
    run_id: str
    client: OpenLineageClient
    columns_read: Mapping[str, str] = field(default_factory=dict)
    columns_written: Mapping[str, str] = field(default_factory=dict)
    table: tuple[str, str] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def report(self) -> Iterator[None]:
        """Send an event when the block begins, and one when it ends."""
        self._send("START")
        try:
            yield
        except KeyboardInterrupt:
            self._send("ABORT")
            raise
        except Exception as error:
            self._send("FAIL", error)
            raise
        self._send("COMPLETE")

    def _send(self, kind: str, error: Exception | None = None) -> None:
        """Send an event; if that fails, print a warning, since the output matters more."""
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.generated.base import set_producer

        try:
            set_producer(_PRODUCER)
            _, output = name_dataset(self.settings.output)
            event = RunEvent(
                eventTime=datetime.now(UTC).isoformat(),
                producer=_PRODUCER,
                eventType=RunState[kind],
                run=Run(lineage_run_id(self.run_id), self._run_facets(error)),
                job=Job(os.environ.get("OPENLINEAGE_NAMESPACE", "default"), f"lakevec.embed:{output}"),
                inputs=self._inputs(),
                outputs=self._outputs(),
            )
            self.client.emit(event)
        except Exception as reason:  # the library's transports raise errors of many classes
            got = redact(one_line(f"{type(reason).__name__}, {reason}"))
            warning = f"warning: lineage event {kind} can't be sent: {got}"
            print(f"{warning}; this does not affect the output", file=sys.stderr)

    def _run_facets(self, error: Exception | None) -> dict[str, Any]:
        from openlineage.client.facet_v2 import error_message_run, parent_run, processing_engine_run

        facets: dict[str, Any] = {}
        if version := self.record.get("spark"):
            facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(version, "spark")
        if error is not None:
            message = str(error) if isinstance(error, LakevecError) else describe_failure(error)
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(redact(message), "python")
        # As OpenLineage's other integrations read it, and Airflow's provider writes it.
        namespace, _, rest = os.environ.get("OPENLINEAGE_PARENT_ID", "").partition("/")
        name, _, run = rest.rpartition("/")
        if run:
            parent = parent_run.ParentRunFacet(parent_run.Run(run), parent_run.Job(namespace, name))
            facets["parent"] = parent
        return facets

    def _inputs(self) -> list[Any]:
        from openlineage.client.event_v2 import InputDataset
        from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

        if self.settings.format == "table":
            names = [self.table] if self.table is not None else []
        else:
            names = list(dict.fromkeys(map(name_dataset, self.settings.input)))
        counts: dict[str, Any] = {}
        if len(names) == 1 and "rows_read" in self.record:
            rows = self.record["rows_read"]
            counts["inputStatistics"] = statistics.InputStatisticsInputDatasetFacet(rowCount=rows)
        return [InputDataset(*name, facets=_schema(self.columns_read), inputFacets=counts) for name in names]

    def _outputs(self) -> list[Any]:
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        counts: dict[str, Any] = {}
        if self.record:
            rows, size = self.record["rows"], self.record.get("bytes")
            facet = statistics.OutputStatisticsOutputDatasetFacet(rowCount=rows, size=size)
            counts["outputStatistics"] = facet
        name = name_dataset(self.settings.output)
        return [OutputDataset(*name, facets=_schema(self.columns_written), outputFacets=counts)]


def open_lineage(settings: EmbedSettings, run_id: str) -> Lineage | None:
    """Prepare the events of a run; None without ``--lineage``.

    Raises
    ------
    SetupError
        If ``openlineage-python`` is missing, or the setting names no server and no file.
    """
    if settings.lineage is None:
        return None
    with requires_extra("lineage", "--lineage"):
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport import get_default_factory

    transport = get_default_factory().create(_describe_transport(settings.lineage))
    return Lineage(settings, run_id, OpenLineageClient(transport=transport))


def name_dataset(name: str) -> tuple[str, str]:
    """Return the namespace and name of a path or URI, by OpenLineage's rules for file systems and stores."""
    uri = absolute_uri(name)
    if "://" in uri:
        uri = _QUERY.split(uri, maxsplit=1)[0]
    if (fixed := GLOB.split(uri)[0]) != uri:
        uri = fixed.rpartition("/")[0]  # the folder of a pattern
    scheme, separator, rest = redact(canonical_uri(uri)).partition("://")
    if not separator:
        return "file", scheme
    host, _, path = rest.partition("/")
    # Keys of object stores begin without a slash, paths of file systems with one.
    return f"{_SCHEMES.get(scheme, scheme)}://{host}", path if scheme in _SCHEMES else f"/{path}"


def _describe_transport(place: str) -> dict[str, Any]:
    """Return the library's configuration for a server or a file."""
    try:
        url = urlsplit(place)
        url.port  # noqa: B018 - it is read on access
    except ValueError as error:
        raise _unusable(place, f"an invalid URL ({one_line(error)})") from None
    if url.scheme in ("http", "https"):
        if not url.hostname:
            raise _unusable(place, "a URL without a host")
        if url.query or url.fragment:
            raise _unusable(place, "a URL with a query or a fragment")
        key = os.environ.get("OPENLINEAGE_API_KEY")
        return {
            "type": "http",
            "url": f"{url.scheme}://{url.netloc}",
            "endpoint": url.path.lstrip("/") or os.environ.get("OPENLINEAGE_ENDPOINT", _ENDPOINT),
            "timeout": _TIMEOUT_S,
            "retry": {"total": 1},
            **({"auth": {"type": "api_key", "apiKey": key}} if key else {}),
        }
    if url.scheme and url.scheme != "file":
        raise _unusable(place, f"scheme {url.scheme!r}")
    file = Path(canonical_uri(absolute_uri(place)))
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise _unusable(place, "a folder" if file.is_dir() else f"no writable folder {str(file.parent)!r}")
    return {"type": "file", "log_file_path": str(file), "append": True}


def _unusable(place: str, got: str) -> SetupError:
    return SetupError(
        f"lineage {place!r} can't be used",
        got=got,
        expected="the URL of an OpenLineage server, or a local file in a folder that exists",
        remedy="correct --lineage, or leave it out",
    )


def _schema(columns: Mapping[str, str]) -> dict[str, Any]:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [schema_dataset.SchemaDatasetFacetFields(name, kind) for name, kind in columns.items()]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields)} if fields else {}
