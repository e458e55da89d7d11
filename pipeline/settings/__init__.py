"""The settings of each job: strict models.

The models are the only place where a key, its type, default, range and help text stand; the command line
(`lakevec.jobs.command_line`), ``conf/*.yaml`` and the tables in ``README.md`` follow them. This package
knows nothing of argparse or Spark.
"""

from lakevec.pipeline.settings.base import Settings, is_positional
from lakevec.pipeline.settings.benchmark import BenchmarkSettings
from lakevec.pipeline.settings.count import CountSettings
from lakevec.pipeline.settings.demo import DemoSettings
from lakevec.pipeline.settings.distill import Dimensions, DistillSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.settings.evaluate import EvaluateSettings
from lakevec.pipeline.settings.mine import MineSettings
from lakevec.pipeline.settings.models import ConvertSettings, InspectSettings
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.settings.verify import VerifySettings

__all__ = [
    "BenchmarkSettings",
    "ConvertSettings",
    "CountSettings",
    "DemoSettings",
    "Dimensions",
    "DistillSettings",
    "EmbedSettings",
    "EvaluateSettings",
    "InspectSettings",
    "MineSettings",
    "Settings",
    "TuneSettings",
    "VerifySettings",
    "is_positional",
]
