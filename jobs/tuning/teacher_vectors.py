"""The teacher's vectors of a sample, made by executors, piece by piece, and kept for the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakevec.jobs.spark.progress import show_progress
from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.tuning.teacher_shards import open_shards
from lakevec.udfs.teacher_task import DONE_SCHEMA, TeacherTask

if TYPE_CHECKING:
    import numpy as np
    from pyspark.sql import SparkSession

    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder


def teach(
    spark: SparkSession, settings: TuneSettings, texts: list[str], encoder: SentenceEncoder
) -> np.ndarray:
    """Return the teacher's vectors; only those that are not kept yet are computed.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : TuneSettings
    texts : list of str of length N
    encoder : SentenceEncoder
        The driver's, which says which teacher it is.

    Returns
    -------
    float32 ndarray of shape (N, H)

    Raises
    ------
    DataError
        If vectors that are kept are damaged.
    OutputError
        If their folder can't be written to.
    """
    pieces = open_shards(
        settings.vectors_folder, texts, teacher=encoder.fingerprint, piece_rows=settings.piece_rows
    )
    try:
        pieces.write_texts(texts, piece_rows=settings.piece_rows)
        missing = tuple(pieces.missing())
    except OSError as error:
        raise OutputError(
            f"can't write to {redact(settings.vectors_folder)!r}",
            got=error.strerror or type(error).__name__,
            remedy="choose another --vectors",
        ) from None
    print(f"teacher: {len(missing)} of {pieces.number} pieces to make", flush=True)
    if missing:
        task = TeacherTask(
            pieces=pieces,
            missing=missing,
            teacher=settings.teacher,
            revision=settings.revision,
            fingerprint=encoder.fingerprint,
            device=settings.device,
            precision=encoder.precision,
            batch_size=settings.batch_size,
            trust_remote_code=settings.trust_remote_code,
        )
        places = spark.range(0, len(missing), 1, numPartitions=len(missing))
        with show_progress(spark, "teacher"):
            places.mapInArrow(task, DONE_SCHEMA).collect()
    return pieces.read_vectors()
