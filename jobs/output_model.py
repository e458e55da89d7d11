"""The model of an output, for commands that embed more texts with it."""

from __future__ import annotations

from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.output.stored_output import StoredOutput


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
