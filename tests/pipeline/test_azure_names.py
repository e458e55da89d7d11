"""Azure's URIs: the container is a part of the name, and no user."""

from __future__ import annotations

import hashlib

import pytest
from pyarrow import fs as pafs

from lakevec.jobs.embedding.file_source import identify
from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.output_folder import folder_uri
from lakevec.pipeline.storage import canonical_uri, locate, strip_user_info

HOST = "lake.dfs.core.windows.net"
ONE = [
    f"abfs://box@{HOST}/docs",
    f"abfss://box@{HOST}/docs/",
    f"abfss://box:a2V5@{HOST}/docs",
    "wasb://box@lake.blob.core.windows.net/docs",
    "wasbs://box@lake.blob.core.windows.net/docs",
    "abfs://box@lake.blob.core.windows.net/docs",
    "abfs://lake.blob.core.windows.net/box/docs",
    f"abfs://{HOST}/box/docs",
    "abfs://:a2V5@lake.blob.core.windows.net/box/docs",
    "abfs://lake:a2V5@box/docs",
    "abfs://lake@box/docs",
]


@pytest.mark.parametrize("uri", ONE)
def test_place_has_one_name_and_pyarrow_finds_container_and_account(uri: str) -> None:
    assert canonical_uri(uri) == f"abfs://box@{HOST}/docs"
    place = locate(uri, error=OutputError)
    assert isinstance(place.filesystem, pafs.AzureFileSystem)
    assert place.path.rstrip("/") == "box/docs"
    facts = place.filesystem.__reduce__()[1][0]
    assert facts["account_name"] == "lake"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"abfs://one@{HOST}/docs", f"abfs://two@{HOST}/docs"),
        (f"abfss://one:k@{HOST}/docs", f"abfss://two:k@{HOST}/docs"),
        ("wasbs://one@lake.blob.core.windows.net/x", "wasbs://two@lake.blob.core.windows.net/x"),
        ("abfs://box@lake.dfs.core.windows.net/x", "abfs://box@lake.dfs.core.chinacloudapi.cn/x"),
        ("abfs://one@127.0.0.1:10000/x", "abfs://two@127.0.0.1:10000/x"),
        (f"abfs://{{one,two}}@{HOST}/x", f"abfs://{{one}}@{HOST}/x"),
    ],
    ids=["abfs", "with a key", "wasbs", "another cloud", "emulator", "patterns"],
)
def test_two_places_have_two_names(one: str, other: str) -> None:
    assert canonical_uri(one) != canonical_uri(other)
    assert identify("parquet", one, ()) != identify("parquet", other, ())


def test_other_clouds_are_reached_by_their_own_domain() -> None:
    place = locate("abfss://space@onelake.dfs.fabric.microsoft.com/item/x", error=OutputError)
    facts = place.filesystem.__reduce__()[1][0]
    assert place.path == "space/item/x"
    assert facts["account_name"] == "onelake"
    assert facts["dfs_storage_authority"] == ".dfs.fabric.microsoft.com"
    assert facts["blob_storage_authority"] == ".blob.fabric.microsoft.com"


@pytest.mark.parametrize(
    ("uri", "stripped"),
    [
        (f"abfss://box@{HOST}/x", f"abfss://box@{HOST}/x"),
        (f"abfss://box:a2V5@{HOST}/x", f"abfss://box@{HOST}/x"),
        ("abfs://:a2V5@lake.blob.core.windows.net/box/x", f"abfs://box@{HOST}/x"),
        ("wasbs://box@lake.blob.core.windows.net/x", "wasbs://box@lake.blob.core.windows.net/x"),
        ("abfs://box:a2V5@127.0.0.1:10000/x", "abfs://box@127.0.0.1:10000/x"),
        ("s3a://key:se/cret@bucket/x", "s3a://bucket/x"),
        ("s3a://key@bucket/x", "s3a://bucket/x"),
        ("hdfs://user:secret@name:8020/x", "hdfs://name:8020/x"),
        ("hdfs://name:8020/user@x", "hdfs://name:8020/user@x"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("hf://organisation/name@main/x", "hf://organisation/name@main/x"),
        ("lake/docs@x", "lake/docs@x"),
    ],
)
def test_user_and_password_are_stripped_and_containers_stay(uri: str, stripped: str) -> None:
    assert strip_user_info(uri) == stripped


def test_checkpoint_of_an_output_names_its_container() -> None:
    uri = f"abfss://box:a2V5@{HOST}/vectors?enable_tls=true"
    assert folder_uri(uri, locate(uri, error=OutputError)) == f"abfss://box@{HOST}/vectors"


def test_input_that_an_earlier_version_began_keeps_its_identity() -> None:
    """It took the container for a user, and left it out."""
    earlier = hashlib.sha256(f"parquet abfss://{HOST}/docs".encode()).hexdigest()[:12]
    assert identify("parquet", f"abfss://box@{HOST}/docs", {earlier}) == earlier
    assert identify("parquet", f"abfss://box@{HOST}/docs", ()) != earlier
