"""The settings of each job: strict models.

The models are the only place where a key, its type, default, range and help text stand; the command line
(`jobs.command_line`), ``conf/*.yaml`` and the tables in ``README.md`` follow them. This package
knows nothing of argparse or Spark.
"""

from pipeline.settings.base import Settings, is_positional
from pipeline.settings.benchmark import BenchmarkSettings
from pipeline.settings.count import CountSettings
from pipeline.settings.demo import DemoSettings
from pipeline.settings.distill import Dimensions, DistillSettings
from pipeline.settings.embed import EmbedSettings
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.mine import MineSettings
from pipeline.settings.models import ConvertSettings, InspectSettings
from pipeline.settings.tune import TuneSettings
from pipeline.settings.verify import VerifySettings

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
