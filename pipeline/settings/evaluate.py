"""Settings of ``lakevec evaluate``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lakevec.pipeline.settings.base import IntegerList, Settings, StringList, VectorTypeList


class EvaluateSettings(Settings):
    r"""Measure models on public tasks, and against their teacher on your own rows.

    Writes report.html, quality.svg, evaluation.json and timings.json. docs/evaluation.md describes tasks and
    metrics.

    Examples
    --------
      lakevec evaluate --model models/minilm --model glove.txt --data data --output report
      lakevec evaluate --model models/minilm --mteb STS12 SciDocsRR --output report-mteb
      lakevec evaluate --model models/minilm --data data --dimensions 256 128 --vector-type float32 binary \
          --output report-small
      lakevec evaluate --model models/bge --output report --sample lake/docs --text body \
          --teacher hf://BAAI/bge-base-en-v1.5
    """

    model: StringList = Field(default_factory=list)
    """Models to evaluate: any that lakevec embed reads, or folders of teachers."""
    dimensions: IntegerList = Field(default_factory=list)
    """Numbers of a table's first columns to measure it with, one after the other. A narrower table leaves out
    numbers above its width. A Sentence Transformer is measured whole. Default: all columns."""
    vector_type: VectorTypeList = Field(default_factory=list)
    """Types of stored vectors to measure a table with: float32, float16, int8, binary. Default: float32."""
    data: str | None = None
    """Folder or URI of tasks, in a folder for each group, such as sts or retrieval; docs/evaluation.md lists
    them. Default: run no task of a folder."""
    mteb: StringList = Field(default_factory=list)
    """Tasks that the mteb library runs, such as STS12 or SciDocsRR. It downloads their data."""
    output: str = Field(examples=["report"])
    """Folder or URI for the report. Must not exist."""
    only: StringList = Field(default_factory=list)
    """Groups or tasks of the data to run, such as sts or SciFact. Default: all."""
    teacher: str | None = None
    """Sentence Transformer (folder or hf://organisation/name) to compare with on the sample."""
    sample: str | None = None
    """Parquet file, folder or URI of your own rows, for fidelity to the teacher."""
    text: str = "text"
    """Text column of the sample."""
    sample_rows: Annotated[int, Field(ge=20, le=3000)] = 2000
    """Number of distinct texts of the sample to compare. Every run takes the same texts."""
    ablations: str | None = None
    """Teacher to distil in steps: with the whole recipe, without PCA, without weights, without both, and from
    its input embeddings."""
    counts: str | None = None
    """With ablations: counts that lakevec count wrote. The whole recipe then uses them, and three more tables
    each use a part of them."""
    plain_teacher: str | None = None
    """With ablations: also distil this plain transformer, such as BERT, which is not a Sentence
    Transformer."""
    cache: str | None = None
    """Local folder that keeps teachers' vectors for later runs. Default: none."""
    speed_texts: Annotated[int, Field(ge=1)] = 100_000
    """Maximum number of texts to measure speed on."""
    speed_s: float = Field(default=10.0, gt=0, le=3600)
    """Maximum seconds of embedding for the measurement of speed."""
    device: str = "auto"
    """Torch device of teachers. auto takes cuda if there is one, else cpu."""

    @model_validator(mode="after")
    def _fit_together(self) -> EvaluateSettings:
        if not self.model and self.ablations is None:
            raise ValueError("nothing to evaluate: give a model, or a teacher for ablations")
        if self.data is None and not self.mteb and self.sample is None:
            raise ValueError(
                "nothing to evaluate on: give data, tasks for mteb, or a sample with its teacher"
            )
        if (self.sample is None) != (self.teacher is None):
            raise ValueError("sample and teacher need each other; give both or none")
        if self.sample is not None and not self.model:
            raise ValueError("a sample needs a model to compare with the teacher")
        if self.ablations is not None and self.data is None:
            raise ValueError("ablations need data")
        if self.only and self.data is None:
            raise ValueError("'only' needs 'data'")
        if self.counts is not None and self.ablations is None:
            raise ValueError("counts need ablations")
        if self.plain_teacher is not None and self.ablations is None:
            raise ValueError("plain_teacher needs ablations")
        return self
