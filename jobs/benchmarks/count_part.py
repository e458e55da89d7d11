"""How fast ``lakevec count`` counts, beside an embedding that writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lakevec.jobs.benchmarks import spark as ways_on_spark
from lakevec.jobs.benchmarks.bench import Bench
from lakevec.jobs.benchmarks.spark_tasks import ColdCountTask, EncodeTask
from lakevec.jobs.benchmarks.timing import Comparison, take_turns
from lakevec.jobs.count import count_lines
from lakevec.pipeline.corpus.text_counter import warm_up
from lakevec.pipeline.corpus.tokenizer_source import find_tokenizer
from lakevec.pipeline.settings.corpus import CountSettings

EMBED, COUNT = "embed, nothing written", "count"
PAIRS = "count, with pairs of words"


def measure_count(bench: Bench) -> Iterator[Comparison]:
    """Count on one session, beside the same texts embedded and dropped, in turn."""
    settings = bench.settings
    tokenizer = find_tokenizer(settings.model)
    warm_up(tokenizer.json, tokenizer.unknown_token_id)
    lake, output = str(bench.lake), str(bench.folder / "counts")
    with ways_on_spark.quiet_session(settings, master=settings.master, verbose=bench.verbose) as spark:
        from lakevec.udfs.distribution import distribute_files
        from lakevec.udfs.node_files import pack_table

        rows = spark.read.parquet(lake)
        how_many = rows.count()
        table = distribute_files(spark, pack_table(bench.table))

        def embed() -> int:
            told = rows.select(settings.text).mapInArrow(EncodeTask(table), "rows long").collect()
            return sum(line.rows for line in told)

        def counting(phrases: int) -> Callable[[], int]:
            asked = CountSettings(
                model=settings.model, input=[lake], text=[settings.text], output=output, phrases=phrases
            )

            def count() -> int:
                lines = count_lines(spark, rows, asked, tokenizer, task_type=ColdCountTask)
                # All sums: what filters or picks columns would make Spark leave some out.
                lines.write.format("noop").mode("overwrite").save()
                return how_many

            return count

        ways = {EMBED: embed, COUNT: counting(1), PAIRS: counting(2)}
        ways[COUNT]()  # warm
        rates = take_turns(ways, settings.repeats)
    speeds = {rate.way: rate.rows_per_s for rate in rates}
    share = speeds[COUNT] / speeds[EMBED]
    notes = [f"counting runs at {share:.0%} of the rate of embedding without a write, words included."]
    yield Comparison("counting", rates, EMBED, notes, {"share_of_embedding": share})
