"""The gate before publishing: does a table keep to its teacher on texts of the lake."""

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
    """What a table must come to.

    Parameters
    ----------
    texts : list of str
        The sample's; empty where none was given.
    sample : str
        Where they come from, without credentials.
    minimum : float or None
        Least correlation with the teacher; None lets everything pass.
    """

    texts: list[str]
    sample: str
    minimum: float | None

    def measure(self, table: StaticTable, teach: Callable[[Sequence[str]], np.ndarray]) -> dict[str, Any]:
        """Compare table and teacher on the sample.

        Parameters
        ----------
        table : StaticTable
        teach : callable
            Returns the teacher's vectors of texts; called only where there is a sample.

        Returns
        -------
        dict
            Figures for the model card; empty without a sample.
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
        """Let a table pass, or not.

        Parameters
        ----------
        quality : dict
            Figures with ``sample_fidelity``, or without a sample ``fidelity``.

        Raises
        ------
        FidelityError
            If it is below the minimum.
        """
        if self.minimum is None:
            return
        found = quality[SAMPLE_FIDELITY if self.texts else FIDELITY]
        if found < self.minimum:
            raise FidelityError(
                f"the table does not keep to its teacher on {self.sample}",
                got=f"a correlation of {found:.4f}",
                expected=f"at least {self.minimum:.4f}",
                remedy="nothing was published; tune on more rows of the lake, or lower --min-fidelity",
            )


def load_gate(sample: str | None, column: str, *, minimum: float | None) -> QualityGate:
    """Read the sample before the long work begins.

    Parameters
    ----------
    sample : str or None
        Parquet file, folder or URI.
    column : str
        Its text column.
    minimum : float or None

    Returns
    -------
    QualityGate
        With up to 3,000 distinct texts, the same each time.

    Raises
    ------
    InputError
        If it can't be read or has too few texts.
    """
    if sample is None:
        return QualityGate([], "held-out texts", minimum)
    texts = sample_texts(sample, column, rows=SAMPLE_ROWS)
    return QualityGate(texts, f"sample {redact(sample)!r}", minimum)
