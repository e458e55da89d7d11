"""How long distilling takes, beside model2vec, for the same teacher and the same table."""

from __future__ import annotations

from collections.abc import Iterator

from lakevec.jobs.benchmarks.bench import Bench
from lakevec.jobs.benchmarks.kernel import peer_missing
from lakevec.jobs.benchmarks.timing import Comparison, take_turns
from lakevec.jobs.demo import embedded_teacher
from lakevec.pipeline.distillation.options import DistillOptions

_MODEL2VEC = "model2vec distill"


def measure_distill(bench: Bench) -> Iterator[Comparison]:
    """Distil on the CPU, in turn with model2vec; a row is a token."""
    try:
        from model2vec.distill import distill as distill_with_model2vec

        from lakevec.pipeline.distillation.recipe import distill
    except ImportError as error:
        raise peer_missing(error) from None
    teacher = bench.settings.teacher or embedded_teacher()[0]
    options = DistillOptions(device="cpu")

    def model2vec() -> int:
        static = distill_with_model2vec(
            teacher, pca_dims=options.dimensions, device="cpu", quantize_to="float32"
        )
        return int(static.embedding.shape[0])

    def lakevec() -> int:
        return distill(teacher, options, progress=False).table.rows

    rates = take_turns({_MODEL2VEC: model2vec, "lakevec distill": lakevec}, bench.settings.repeats)
    seconds = ", ".join(f"{rate.way} {rate.rows / rate.rows_per_s:.1f} s" for rate in rates)
    yield Comparison("distilling, a row is a token", rates, _MODEL2VEC, [f"Median: {seconds}."])
