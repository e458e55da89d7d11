"""File systems that Spark reaches through Hadoop, and what to add where one is missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lakevec.pipeline.errors import SetupError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Hadoop's own connectors are released with it; {version} is the Hadoop that this Spark carries.
_PACKAGES = {
    "s3a": "org.apache.hadoop:hadoop-aws:{version}",
    "s3": "org.apache.hadoop:hadoop-aws:{version}",
    "s3n": "org.apache.hadoop:hadoop-aws:{version}",
    "abfs": "org.apache.hadoop:hadoop-azure:{version}",
    "abfss": "org.apache.hadoop:hadoop-azure:{version}",
    "wasb": "org.apache.hadoop:hadoop-azure:{version}",
    "wasbs": "org.apache.hadoop:hadoop-azure:{version}",
    "gs": "com.google.cloud.bigdataoss:gcs-connector:hadoop3-VERSION",
    "oss": "org.apache.hadoop:hadoop-aliyun:{version}",
    "cosn": "org.apache.hadoop:hadoop-cos:{version}",
}
_SCHEMES_OF_CLASSES = {
    "s3a": "s3a",
    "azurebfs": "abfs",
    "azure": "wasb",
    "gs": "gs",
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
    """Refuse a place whose scheme this Spark has no file system for; nothing is read.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        A Connect session can't be asked; its first read tells.
    uri : str

    Raises
    ------
    SetupError
    """
    if "://" not in uri or not hasattr(spark, "_jvm"):
        return
    jvm: Any = spark._jvm
    try:
        jvm.org.apache.hadoop.fs.Path(uri).getFileSystem(spark._jsc.hadoopConfiguration())
    except Exception as error:  # whatever Java finds
        if (missing := explain_file_system(str(error))) is not None:
            raise missing from None


def explain_file_system(message: str) -> SetupError | None:
    """Say what a Java error means that names a missing file system.

    Parameters
    ----------
    message : str
        Java's error, stack trace included.

    Returns
    -------
    SetupError or None
        None for any other error.
    """
    if found := _NO_SCHEME.search(message):
        return _missing(found[1], f"no file system for scheme {found[1]!r}")
    if (found := _NO_CLASS.search(message)) and found[2] in _SCHEMES_OF_CLASSES:
        scheme = _SCHEMES_OF_CLASSES[found[2]]
        return _missing(scheme, f"no class {found[1].rpartition('.')[2]}")
    if found := _WRONG_CLASS.search(message):
        name = found[1].strip("'").replace("/", ".")
        version = _hadoop_version()
        return SetupError(
            "Spark's connector to a file system does not fit this Spark",
            got=f"no {name.rstrip('.')}",
            expected=f"a connector for Hadoop {version}, with all that it needs",
            remedy="let Spark resolve it, as in --conf spark.jars.packages="
            + _PACKAGES[_scheme_of_class(name)].format(version=version),
        )
    return None


def _scheme_of_class(name: str) -> str:
    """Return a scheme whose connector needs a class."""
    signs = {"abfs": ("azure", "wildfly"), "gs": ("google", ".gs."), "oss": ("aliyun",)}
    return next((scheme for scheme, parts in signs.items() if any(part in name for part in parts)), "s3a")


def _missing(scheme: str, got: str) -> SetupError:
    version = _hadoop_version()
    if scheme not in _PACKAGES:
        return SetupError(
            f"Spark has no file system for {scheme}://",
            got=got,
            expected="file, hdfs, or a scheme whose connector is on Spark's class path",
            remedy=f"check the URI, or set spark.hadoop.fs.{scheme}.impl and add its connector",
        )
    package = _PACKAGES[scheme].format(version=version)
    remedy = f"add --conf spark.jars.packages={package}"
    if scheme in ("s3", "s3n"):
        remedy = f"write s3a:// for the input, and {remedy}"
    return SetupError(
        f"Spark has no file system for {scheme}://",
        got=got,
        expected=f"{package.split(':')[1]}, which Spark does not bring along, for Hadoop {version}",
        remedy=remedy,
    )


def _hadoop_version() -> str:
    """Return the version of Hadoop that the running Spark carries."""
    try:
        from pyspark import SparkContext

        context: Any = SparkContext._active_spark_context
        return str(context._jvm.org.apache.hadoop.util.VersionInfo.getVersion())
    except (ImportError, AttributeError):
        return "VERSION"
