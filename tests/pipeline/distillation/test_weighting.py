"""Token weights and counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.distillation import weighting
from lakevec.pipeline.distillation.weighting import read_counts, zipf_weights
from lakevec.pipeline.errors import InputError


def test_weights_by_rank_are_the_formula() -> None:
    """Three tokens: 1/rank = 1/2, 1/3, 1/4, which add up to 13/12."""
    weights = weighting.sif_weights(weighting.zipf_frequencies(3), coefficient=0.1)
    shares = [6 / 13, 4 / 13, 3 / 13]
    np.testing.assert_allclose(weights, [0.1 / (0.1 + share) for share in shares])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"token": ["1"], "n": [1]}, "expected Parquet with the columns token"),
        ({"token": ["1"], "count": ["many"]}, "can't be read"),
        ({"token": ["1"], "count": [-1]}, "got nulls or counts below 0"),
        ({"token": ["1", None], "count": [1, 2]}, "got nulls or counts below 0"),
        ({"token": ["nobody's"], "count": [1]}, "have none of the vocabulary's tokens"),
        ({"token": ["1"], "count": [0]}, "have none of the vocabulary's tokens"),
    ],
    ids=["column", "type", "negative", "null", "other tokens", "zeros"],
)
def test_counts_that_can_not_be_used_are_refused(
    columns: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "counts.parquet")
    with pytest.raises(InputError, match=message):
        read_counts(str(tmp_path / "counts.parquet")).lookup(["1", "2"])


def test_zipf_weights_are_the_logarithm_of_the_rank() -> None:
    np.testing.assert_allclose(zipf_weights(3), [0, np.log(2), np.log(3)])
