"""The name of a run, when it began and what it spent its time on."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime


def new_run_id() -> str:
    """Name a run by its start, so that names sort, and by chance.

    Returns
    -------
    str
    """
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


class RunTimer:
    """Two spans of a run: until the first row could be read, and from then on."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self._started = self._embedding = time.monotonic()

    def start_embedding(self) -> None:
        """End the first span."""
        self._embedding = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Return both spans, in seconds.

        Returns
        -------
        dict of str to float
            ``startup`` and ``embed``.
        """
        embed = time.monotonic() - self._embedding
        return {"startup": round(self._embedding - self._started, 3), "embed": round(embed, 3)}
