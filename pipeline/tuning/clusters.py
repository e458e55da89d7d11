"""A sample spread evenly over clusters of texts, so that rare topics have a larger share than at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.cluster import MiniBatchKMeans

from lakevec.pipeline.distillation.options import DistillOptions, TeacherOptions, copy_options
from lakevec.pipeline.distillation.recipe import distill
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.evaluation.metrics import one_thread
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.tuning.sampling import allocate_equally

# docs/decisions.md has figures.
_CLUSTERS, _FEWEST_TEXTS = 200, 10
_POOL_FACTOR, _MOST_POOL_TEXTS = 8, 500_000
_DIMENSIONS = 256
# Texts that k-means sees, and texts whose vectors are in memory at once.
_BATCH = 50_000


@dataclass(frozen=True, eq=False)
class Sample:
    """Texts to tune on, and how they were chosen.

    Parameters
    ----------
    texts : list of str
        In a reproducible random order; the first texts are held out.
    pool : int, default=0
        Number of texts that the clusters chose from; 0 if they chose nothing.
    clusters : int, default=0
        Number of clusters; 0 if they chose nothing.
    """

    texts: list[str]
    pool: int = 0
    clusters: int = 0


def pool_rows(rows: int) -> int:
    """Return how many texts to draw at random, so that clusters choose `rows` of them.

    The driver holds them in memory, so beyond 500,000 there are only twice as many as `rows`.

    Examples
    --------
    >>> [pool_rows(rows) for rows in (1_000, 100_000, 1_000_000)]
    [8000, 500000, 2000000]
    """
    return max(2 * rows, min(_POOL_FACTOR * rows, _MOST_POOL_TEXTS))


def distill_for_clusters(teacher: str, options: TeacherOptions) -> StaticTable:
    """Distil the table whose vectors are clustered.

    It depends on the teacher alone. So a sample stays the same, with its teacher vectors, if the vocabulary,
    the counts or the dimensions of the table to train change.
    """
    # Tokens are few and short, so int8 saves nothing.
    precision = "float32" if options.precision == "int8" else options.precision
    runtime = copy_options(options, TeacherOptions, precision=precision)
    plain = copy_options(runtime, DistillOptions, batch_size=DistillOptions.batch_size, dimensions="auto")
    table = distill(teacher, plain).table
    return table.cut(min(_DIMENSIONS, table.dimensions))


def choose_by_clusters(
    pool: Sequence[str], table: StaticTable, *, rows: int, held_out: int, seed: int
) -> Sample:
    """Choose texts so that each cluster of their vectors gives the same number, or all its texts.

    Parameters
    ----------
    pool : sequence of str
        More than `rows` texts, in random order.
    table : StaticTable
        Embeds the texts.
    rows : int
        Number of texts to choose.
    held_out : int
        Number of texts to take at random, so that they measure the table on the lake as it is. They come
        first, and are the first of the pool.
    seed : int

    Returns
    -------
    Sample
        In the order of the pool.

    Notes
    -----
    Mini-batch k-means (Sculley, "Web-Scale K-Means Clustering", WWW 2010) finds 200 clusters, or fewer so
    that each gives 10 texts, on at most 50,000 texts of the pool. A cluster gives its first texts in the
    order of the pool. The same pool, table and seed give the same sample on one machine.
    """
    chosen, rest = rows - held_out, pool[held_out:]
    clusters = max(1, min(_CLUSTERS, chosen // _FEWEST_TEXTS))
    labels = _label(rest, table, clusters, seed)
    shares = allocate_equally(dict(enumerate(np.bincount(labels, minlength=clusters).tolist())), chosen)
    firsts = [np.flatnonzero(labels == cluster)[:share] for cluster, share in shares.items()]
    places = np.sort(np.concatenate(firsts))
    return Sample([*pool[:held_out], *(rest[place] for place in places)], len(pool), clusters)


def _label(texts: Sequence[str], table: StaticTable, clusters: int, seed: int) -> np.ndarray:
    """Return each text's cluster: int32 of shape (N,)."""
    encoder = Encoder(table)
    # Texts are in random order, so the first ones are a random sample.
    means = MiniBatchKMeans(clusters, n_init="auto", random_state=seed)
    labels = []
    # One thread sums in the same order on any number of cores.
    with one_thread():
        for first in range(0, len(texts), _BATCH):
            vectors = encoder.encode(pa.array(texts[first : first + _BATCH], pa.large_string())).vectors
            labels.append(means.predict(vectors) if first else means.fit_predict(vectors))
    return np.concatenate(labels)
