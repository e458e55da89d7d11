"""The teacher's vectors of a sample: executors compute them shard by shard, and later runs use them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakevec.jobs.spark.progress import show_progress
from lakevec.pipeline.distillation.options import TeacherOptions, copy_options
from lakevec.pipeline.errors import OutputError
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
    """Return the teacher's vectors of texts: float32 of shape (N, H). Compute only those that are missing.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : TuneSettings
    texts : list of str of length N
    encoder : SentenceEncoder
        The driver's, which identifies the teacher.

    Raises
    ------
    DataError
        If existing vectors are damaged.
    OutputError
        If their folder can't be written to.
    """
    folder, shard_rows = settings.vectors_folder, settings.piece_rows
    shards = open_shards(folder, texts, teacher=encoder.fingerprint, shard_rows=shard_rows)
    try:
        shards.write_texts(texts, shard_rows=shard_rows)
        missing = tuple(shards.missing())
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise OutputError(f"can't write to {folder!r}", got=got, remedy="choose another --vectors") from None
    print(f"teacher: {len(missing)} of {shards.number} shards to make", flush=True)
    if missing:
        options = copy_options(settings, TeacherOptions, precision=encoder.precision)
        task = TeacherTask(shards, missing, settings.teacher, options, encoder.fingerprint)
        rows = spark.range(0, len(missing), 1, numPartitions=len(missing))
        with show_progress(spark, "teacher"):
            rows.mapInArrow(task, DONE_SCHEMA).collect()
    return shards.read_vectors()
