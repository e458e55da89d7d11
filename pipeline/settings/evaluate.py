"""Settings of ``lakevec evaluate``."""

from __future__ import annotations

from pydantic import Field, model_validator

from lakevec.pipeline.settings.base import MODEL, Settings, StringList


class EvaluateSettings(Settings):
    """What ``lakevec evaluate`` measures, on what, and where it writes."""

    model: StringList = Field(
        default_factory=list, description=f"what to evaluate, several at once: {MODEL}; or a teacher's folder"
    )
    data: str | None = Field(
        default=None,
        description="folder or URI of tasks, in folders wordsim, sts, classification, clustering, retrieval "
        "and phrases; by default no task is run",
    )
    output: str = Field(description="folder or URI for the report; must not exist yet")
    only: StringList = Field(
        default_factory=list, description="groups or tasks to run, as in sts or SciFact; by default all"
    )
    teacher: str | None = Field(
        default=None,
        description="a Sentence Transformer (folder or hf://organisation/name) to compare with on the rows "
        "of the sample",
    )
    sample: str | None = Field(
        default=None, description="Parquet file, folder or URI of your own rows, for fidelity to the teacher"
    )
    text: str = Field(default="text", description="text column of the sample")
    sample_rows: int = Field(
        default=2000,
        ge=20,
        le=3000,
        description="distinct texts of the sample to compare, the same each time",
    )
    ablations: str | None = Field(
        default=None,
        description="teacher to distil anew without PCA, without weights, without both, and from its input "
        "embeddings",
    )
    counts: str | None = Field(
        default=None,
        description="with ablations: what lakevec count wrote; the whole recipe is then that with counts, "
        "and more of its steps are left out",
    )
    plain_teacher: str | None = Field(
        default=None,
        description="with ablations: a plain transformer, such as BERT, that is no Sentence Transformer",
    )
    cache: str | None = Field(
        default=None, description="local folder that keeps teachers' vectors for later runs; by default none"
    )
    speed_texts: int = Field(
        default=100_000, ge=1, description="texts to measure speed on, or fewer where the time is over"
    )
    speed_s: float = Field(
        default=10.0, gt=0, le=3600, description="seconds of embedding after which speed is known well enough"
    )
    device: str = Field(
        default="auto", description="torch device of teachers; auto is cuda where there is one, else cpu"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> EvaluateSettings:
        if not self.model and self.ablations is None:
            raise ValueError("nothing to evaluate: give a model, or a teacher for ablations")
        if self.data is None and self.sample is None:
            raise ValueError("nothing to evaluate on: give data, or a sample with its teacher")
        if (self.sample is None) != (self.teacher is None):
            raise ValueError("sample and teacher go together")
        if self.sample is not None and not self.model:
            raise ValueError("a sample needs a model to compare with the teacher")
        if self.ablations is not None and self.data is None:
            raise ValueError("ablations need data")
        if self.only and self.data is None:
            raise ValueError("only needs data")
        if self.counts is not None and self.ablations is None:
            raise ValueError("counts need ablations")
        if self.plain_teacher is not None and self.ablations is None:
            raise ValueError("plain_teacher needs ablations")
        return self
