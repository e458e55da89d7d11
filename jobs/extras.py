"""What a command needs beyond the core: a missing package is one line that says how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lakevec.pipeline.errors import SetupError


@contextmanager
def requires_extra(extra: str, doing: str) -> Iterator[None]:
    """Tell of imports that fail what to install.

    Parameters
    ----------
    extra : str
        The extra that brings what is imported inside.
    doing : str
        What needs it, as in "tuning".

    Raises
    ------
    SetupError
        If a package is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise SetupError(
            f"{doing} needs a package that is not installed",
            got=str(error.name),
            remedy=f"pip install 'lakevec[{extra}]'",
        ) from None
