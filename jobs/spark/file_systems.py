"""File systems that Spark reaches through Hadoop, and the package for each missing connector."""

from __future__ import annotations

import re
from typing import Any

from pyspark.sql import SparkSession

from lakevec.pipeline.errors import SetupError

# Hadoop releases its own connectors; {version} is the Hadoop version of the running Spark.
_SCHEMES = {
    "org.apache.hadoop:hadoop-aws:{version}": ("s3a", "s3", "s3n"),
    "org.apache.hadoop:hadoop-azure:{version}": ("abfs", "abfss", "wasb", "wasbs"),
    "com.google.cloud.bigdataoss:gcs-connector:hadoop3-VERSION": ("gs",),
    "org.apache.hadoop:hadoop-aliyun:{version}": ("oss",),
    "org.apache.hadoop:hadoop-cos:{version}": ("cosn",),
}
_PACKAGES = {scheme: package for package, schemes in _SCHEMES.items() for scheme in schemes}
# Words in the names of a connector's classes, and a scheme of the connector.
_SCHEMES_OF_WORDS = {
    "azurebfs": "abfs",
    "azure": "wasb",
    "wildfly": "abfs",
    "google": "gs",
    ".gs.": "gs",
    "aliyun": "oss",
    "cosn": "cosn",
}
_NO_SCHEME = re.compile(r'No FileSystem for scheme:? "?([\w.+-]+)"?')
_NO_CLASS = re.compile(r"ClassNotFoundException: (?:Class )?([\w.$]*fs\.(\w+)\.\w*FileSystem\w*)")
_WRONG_CLASS = re.compile(
    r"(?:NoClassDefFoundError|ClassNotFoundException|NoSuchMethodError|NoSuchFieldError|IllegalAccessError)"
    r"[:\s]+(?:Class )?'?((?:org[./]apache[./]hadoop[./]fs[./](?:s3a|azurebfs|azure|gs|aliyun|cosn)"
    r"|com[./]amazonaws|software[./]amazon[./]awssdk|com[./]microsoft[./]azure|com[./]google[./]cloud"
    r"|org[./]wildfly|com[./]aliyun)[./][\w./$]*)",
    re.IGNORECASE,
)


def check_file_system(spark: SparkSession, uri: str) -> None:
    """Raise SetupError if this Spark has no file system for a URI; read nothing.

    With Spark Connect the check does nothing, and the first read fails instead.
    """
    if "://" not in uri or not hasattr(spark, "_jvm"):
        return
    try:
        hadoop_path(spark, uri)
    except Exception as error:  # Java errors of any class
        if (missing := explain_file_system(str(error))) is not None:
            raise missing from None


def hadoop_path(spark: SparkSession, uri: str) -> tuple[Any, Any]:
    """Return Hadoop's path of a URI and its file system; Spark Connect has neither."""
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(uri)
    return path, path.getFileSystem(spark._jsc.hadoopConfiguration())


def explain_file_system(message: str) -> SetupError | None:
    """Explain a Java stack trace that names a missing file system; return None for other errors."""
    if found := _NO_SCHEME.search(message):
        return _missing(found[1], f"no file system for scheme {found[1]!r}")
    if found := _NO_CLASS.search(message):
        scheme = _SCHEMES_OF_WORDS.get(found[2], found[2])
        if scheme in _PACKAGES:
            return _missing(scheme, f"no class {found[1].rpartition('.')[2]}")
    if found := _WRONG_CLASS.search(message):
        name = found[1].strip("'").replace("/", ".")
        scheme = next((scheme for word, scheme in _SCHEMES_OF_WORDS.items() if word in name), "s3a")
        version = _hadoop_version()
        return SetupError(
            "Spark's connector to a file system does not fit this Spark",
            got=f"no {name.rstrip('.')}",
            expected=f"a connector for Hadoop {version} and its dependencies",
            remedy="let Spark resolve it, as in --conf spark.jars.packages="
            + _PACKAGES[scheme].format(version=version),
        )
    return None


def _missing(scheme: str, got: str) -> SetupError:
    expected = "file, hdfs, or a scheme whose connector is on Spark's class path"
    remedy = f"check the URI, or set spark.hadoop.fs.{scheme}.impl and add its connector"
    if scheme in _PACKAGES:
        version = _hadoop_version()
        package = _PACKAGES[scheme].format(version=version)
        expected = f"{package.split(':')[1]}, a package that Spark lacks, for Hadoop {version}"
        remedy = f"add --conf spark.jars.packages={package}"
    if scheme in ("s3", "s3n"):
        remedy = f"write s3a:// for the input, and {remedy}"
    return SetupError(f"Spark has no file system for {scheme}://", got=got, expected=expected, remedy=remedy)


def _hadoop_version() -> str:
    try:
        from pyspark import SparkContext

        context: Any = SparkContext._active_spark_context
        return str(context._jvm.org.apache.hadoop.util.VersionInfo.getVersion())
    except (ImportError, AttributeError):
        return "VERSION"
