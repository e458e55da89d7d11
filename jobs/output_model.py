"""An output that commands without Spark read, and the model that it was written with."""

from __future__ import annotations

import sys

from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.output.stored_output import StoredOutput, read_output
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.settings.models import ExportSettings, SearchSettings


def open_vectors(settings: SearchSettings | ExportSettings) -> tuple[StoredOutput, VectorReader, list[str]]:
    """Open an output, and tell what other programs changed in it.

    Returns
    -------
    output : StoredOutput
    reader : VectorReader
        Of the chosen embedding column.
    columns : list of str
        Other columns to read. Default: all.

    Raises
    ------
    DamagedOutputError
        If other programs changed it so that its rows can't be told.
    """
    output = read_output(settings.output)
    output.check()
    for note in output.notes:
        print(note, file=sys.stderr)
    reader = VectorReader(output, settings.embedding_column)
    columns = settings.columns or reader.other_columns
    reader.check_columns(columns)
    return output, reader, columns


def load_model_of(output: StoredOutput, given: str | None) -> Artifact:
    """Load the model that an output was written with.

    Parameters
    ----------
    output : StoredOutput
    given : str or None
        Folder or URI. Default: the one that the output's first run recorded.

    Raises
    ------
    ModelError
        If there is no model.
    CommitError
        If it is another model than the output's.
    """
    uri = given or output.metadata.model
    artifact = load(uri)
    if artifact.table.fingerprint != output.metadata.fingerprint:
        raise CommitError(
            f"the output was written with another model than {uri!r}"
            if given
            else f"{uri!r} now holds another model",
            got=artifact.table.fingerprint,
            expected=output.metadata.fingerprint,
            remedy="give the output's model as --model",
        )
    return artifact
