"""The quality gate: a table is published only if its fidelity to its teacher is high enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import FidelityError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.evaluation.sampling import sample_texts
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.redaction import redact

SAMPLE_ROWS = 3000
FIDELITY = "fidelity"
SAMPLE_FIDELITY = "sample_fidelity"


@dataclass(frozen=True)
class QualityGate:
    """A sample of texts and the fidelity that a table must reach.

    Parameters
    ----------
    texts : list of str
        Texts of the sample; empty if there is none.
    sample : str
        The sample's name in messages, without credentials.
    minimum : float or None
        Lowest correlation with the teacher that passes. None lets every table pass.
    """

    texts: list[str]
    sample: str
    minimum: float | None

    def measure(self, table: StaticTable, teach: Callable[[Sequence[str]], np.ndarray]) -> dict[str, Any]:
        """Compare table and teacher on the sample; return figures for the model card, none without a sample.

        Parameters
        ----------
        table : StaticTable
        teach : callable
            Embeds texts with the teacher.
        """
        if not self.texts:
            return {}
        vectors = Encoder(table).encode(pa.array(self.texts, pa.large_string())).vectors
        found = measure_fidelity(vectors, teach(self.texts))
        return {
            "sample_texts": found.rows,
            SAMPLE_FIDELITY: found.correlation,
            "sample_fidelity_of_ranks": found.rank_correlation,
            "sample_neighbours_kept": found.neighbours,
        }

    def decide(self, quality: dict[str, Any]) -> None:
        """Raise a FidelityError if the fidelity on the sample, or else on held-out texts, is too low."""
        if self.minimum is None:
            return
        found = quality[SAMPLE_FIDELITY if self.texts else FIDELITY]
        if found < self.minimum:
            raise FidelityError(
                f"the table's fidelity to its teacher on {self.sample} is too low",
                got=f"a correlation of {found:.4f}",
                expected=f"at least {self.minimum:.4f}",
                remedy="nothing was published; tune on more rows of the lake, or lower --min-fidelity",
            )


def load_gate(sample: str | None, column: str, *, minimum: float | None) -> QualityGate:
    """Read up to 3,000 distinct texts of a sample, before any long work; every run reads the same ones."""
    if sample is None:
        return QualityGate([], "held-out texts", minimum)
    texts = sample_texts(sample, column, rows=SAMPLE_ROWS)
    return QualityGate(texts, f"sample {redact(sample)!r}", minimum)
