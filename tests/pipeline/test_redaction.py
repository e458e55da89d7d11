"""The rule that hides secrets: in URIs, options, properties, errors and what Python prints of them."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakevec.jobs.cli import RunContext, format_settings, run_job
from lakevec.jobs.cli import main as lakevec
from lakevec.pipeline.errors import LakevecError
from lakevec.pipeline.redaction import KEY_PATTERN, PLAN_PATTERN, is_secret, redact, redact_values, remember
from lakevec.pipeline.settings.embed import EmbedSettings

REQUIRED = {"model": "m", "input": ["i"], "text": ["t"], "output": "o"}
PEM = "-----BEGIN {0}PRIVATE KEY-----\nMIIMARK\n-----END {0}PRIVATE KEY-----\n"
HOLDING = [
    ("s3://MARK:MARK@bucket/docs", "s3://***@bucket/docs"),
    ("s3a://AKIA:abc/MARK@bucket/docs", "s3a://***@bucket/docs"),
    ("s3a://AKIA:ab@MARK/c@bucket/docs", "s3a://***@bucket/docs"),
    ("s3n://AKIA:12345/MARK@bucket/docs", "s3n://***@bucket/docs"),
    ("s3://AKIA:abc%2FMARK@bucket/docs", "s3://***@bucket/docs"),
    ("s3%3A%2F%2FAKIA%3AMARK%40bucket", "s3%3A%2F%2F***%40bucket"),
    ("hdfs://user:MARK@name:8020/docs", "hdfs://***@name:8020/docs"),
    ("https://user:MARK@host:8080/a@b", "https://***@b"),
    ("abfss://box:MARK/+=@lake.dfs.core.windows.net/x", "abfss://box:***@lake.dfs.core.windows.net/x"),
    ("abfs://:MARK@lake.blob.core.windows.net/box", "abfs://:***@lake.blob.core.windows.net/box"),
    ("https://lake.blob.core.windows.net/b?sv=1&sig=MARK%2F&se=2", None),
    ("wasbs://box@lake.blob.core.windows.net/x?sv=2020-08-04&se=2030&sr=c&sig=MARK", None),
    ("https://bucket.s3.amazonaws.com/x?X-Amz-Credential=MARK&X-Amz-Signature=MARK&a=b", None),
    ("https://host/x?X-Amz-Security-Token=MARK", None),
    ("https://host/x?key=MARK&alt=json", "https://host/x?key=***&alt=json"),
    ("url%3Fpassword%3DMARK%26user%3Du", "url%3Fpassword%3D***%26user%3Du"),
    ("jdbc:postgresql://h:5432/db?user=u&password=MARK", "jdbc:postgresql://h:5432/db?user=u&password=***"),
    ("jdbc:postgresql://h/db?password=MA/RK@MARK,&ssl=true", "jdbc:postgresql://h/db?password=***&ssl=true"),
    ("jdbc:sqlserver://h:1433;user=u;password=MARK@MARK;encrypt=true", None),
    ("jdbc:sqlserver://h:1433;user=u;password={MA;MARK}}MARK};encrypt=true", None),
    ("jdbc:oracle:thin:scott/MARK@//h:1521/service", "jdbc:oracle:thin:***@//h:1521/service"),
    ("jdbc:mysql://u:MARK@h/db", "jdbc:mysql://***@h/db"),
    ("jdbc:teradata://h/PASSWORD=MARK,USER=u", "jdbc:teradata://h/PASSWORD=***,USER=u"),
    ("mongodb+srv://u:MARK@c.example.net/?retryWrites=true", None),
    ('org.apache.kafka.X required username="u" password="MA MARK";', None),
    ("-Djavax.net.ssl.keyStorePassword=MARK", "-Djavax.net.ssl.keyStorePassword=***"),
    ("AccountName=x;AccountKey=MARK==;EndpointSuffix=y", "AccountName=x;AccountKey=***;EndpointSuffix=y"),
    ("BlobEndpoint=https://x/;SharedAccessSignature=sv=2020&sig=MARK", None),
    ('{"type": "service_account", "private_key": "MARK", "client_email": "a@b"}', None),
    ('{\\"password\\": \\"MARK\\"}', '{\\"password\\": \\"***\\"}'),
    ("{'fs.s3a.secret.key': 'MARK'}", "{'fs.s3a.secret.key': '***'}"),
    (PEM.format(""), "***\n"),
    (PEM.format("RSA "), "***\n"),
    (PEM.format("OPENSSH ").replace("\n", "\\n"), "***\\n"),
    (PEM.format("")[:40], "***"),
    ("Authorization: Bearer MARKMARK", "Authorization: ***"),
    ("Authorization: Basic TUFSSw==MARK", "Authorization: ***"),
    ("sent 'authorization': 'Bearer MARKMARK'", "sent 'authorization': '***'"),
    ("bearer MARKMARKMARK", "bearer ***"),
    ("denied for hf_abcdefghMARKabcdefgh", "denied for ***"),
    ("denied for eyJhbGciOiJI.eyJzdWIiOiIMARK.MARK_-x", "denied for ***"),
    ("AWS_SESSION_TOKEN=MARK", "AWS_SESSION_TOKEN=***"),
    ("unrecognized arguments: --password MARK", "unrecognized arguments: --password ***"),
]
HARMLESS = [
    "lake/docs",
    "/lake/token=5/key=7/a.parquet",
    "s3://bucket/mail@example.org/x",
    "s3a://bucket/day=2020-01-01",
    "hdfs://name:8020/user@example.org/x",
    "abfss://box@lake.dfs.core.windows.net/docs",
    "hf://organisation/name@main/folder",
    "hf://gpt2@main",
    "file:///lake/docs",
    "max_tokens=512, special_tokens=reversed",
    "teacher 'x' has no tokenizer: expected tokenizer.json, or files to make it from",
    "'key' is not allowed: Input should be a valid string: got 5",
    "the keys stand more than once; expected KEY=VALUE",
    "header=true sep=| basePath=/lake",
]
SECRET_KEYS = [
    "fs.azure.sas.box.lake.blob.core.windows.net",
    "spark.hadoop.fs.azure.sas.fixed.token.lake",
    "fs.azure.account.key.lake.dfs.core.windows.net",
    "fs.azure.account.oauth2.client.secret",
    "spark.hadoop.fs.gs.auth.service.account.private.key",
    "spark.hadoop.fs.gs.auth.service.account.private.key.id",
    "spark.kafka.sasl.jaas.config",
    "kafka.ssl.keystore.key",
    "fs.s3a.session.token",
    "fs.s3a.access.key",
    "AWS_SECRET_ACCESS_KEY",
    "spark.sql.catalog.lake.token",
    "spark.sql.catalog.lake.s3.secret-access-key",
    "spark.sql.catalog.lake.credential",
    "spark.executorEnv.DATABASE_PASSWORD",
    "spark.kubernetes.authenticate.driver.oauthToken",
    "accountKey",
    "urlSig",
    "pass",
    "dbPass",
    "apikey",
    "connectionString",
    "my.own.key",
    "X-Amz-Signature",
]
# Spark, whose pattern ignores case, takes these for one word.
CAMEL_CASE_KEYS = ["sasUrl"]


@pytest.mark.parametrize(("text", "shown"), HOLDING, ids=range(len(HOLDING)))
def test_secret_is_masked_alone_and_in_an_error_and_once_is_enough(text: str, shown: str | None) -> None:
    alone = redact_values(text)
    assert "MARK" not in alone
    assert "***" in alone
    assert redact_values(alone) == alone
    assert alone == (shown or alone)
    told = str(LakevecError(f"can't reach {text!r}", got=f"403 for {text}", remedy="look"))
    assert "MARK" not in told
    assert told.startswith("can't reach ")
    assert redact(told) == told


@pytest.mark.parametrize("text", HARMLESS)
def test_text_without_a_secret_stays(text: str) -> None:
    assert redact(text) == text
    assert redact_values(text) == text


@pytest.mark.parametrize("key", [*SECRET_KEYS, *CAMEL_CASE_KEYS])
def test_key_that_looks_like_a_secret_hides_its_value(key: str) -> None:
    assert is_secret(key, "MARK")
    assert redact_values({"conf": {key: "MARK"}}) == {"conf": {key: "***"}}
    assert redact_values({key: ["MARK", {"x": "MARK"}]}) == {key: ["***", {"x": "***"}]}


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_spark_hides_the_value_of_a_key_that_looks_like_a_secret(key: str) -> None:
    assert re.search(KEY_PATTERN, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("header", "true"),
        ("sep", "|"),
        ("basePath", "/lake"),
        ("pathGlobFilter", "*.parquet"),
        ("columnNameOfCorruptRecord", "bad"),
        ("keyspace", "docs"),
        ("dbtable", "docs"),
        ("kafka.sasl.mechanism", "PLAIN"),
        ("kafka.partition.assignment.strategy", "sticky"),
        ("spark.sql.shuffle.partitions", "8"),
        ("spark.sql.mapKeyDedupPolicy", "LAST_WIN"),
        ("spark.sql.session.timeZone", "Europe/Berlin"),
        ("spark.executor.memory", "4g"),
        ("spark.authenticate", "true"),
        ("spark.app.author", "me"),
        ("spark.x.max_tokens", "512"),
    ],
)
def test_key_of_no_secret_shows_its_value(key: str, value: str) -> None:
    assert redact_values({key: value}) == {key: value}


def test_number_under_a_sure_name_is_a_secret_too() -> None:
    assert redact_values({"password": "1234", "spark.network.auth.rounds": "3"}) == {
        "password": "***",
        "spark.network.auth.rounds": "3",
    }


_pieces = st.sampled_from(
    [
        "password=",
        "token:",
        "&",
        ";",
        "'",
        '"',
        "\\",
        "{",
        "}",
        "://",
        "@",
        ":",
        "/",
        "x",
        " ",
        "***",
        "%3D",
        ",",
    ]
)


@given(st.lists(_pieces, max_size=12).map("".join))
def test_any_text_is_redacted_and_what_is_redacted_stays(text: str) -> None:
    once = redact_values(text)
    assert redact_values(redact_values(once)) == redact_values(once)


@pytest.mark.parametrize(
    "piece",
    ["a", "s3://", "password=", "token", "x:", '"', "password='", "%3A%2F%2F", "a&b=", PEM[:25], "\\'"],
)
def test_long_text_takes_no_time(piece: str) -> None:
    text = piece * (50_000 // len(piece))
    started = time.perf_counter()
    redact(text)
    redact_values(text)
    assert time.perf_counter() - started < 5


# What these remember is known to all later tests, so it occurs nowhere else.
def test_secrets_of_a_run_are_known_wherever_a_message_repeats_a_part_of_them() -> None:
    remember({"password": "quokka one", "url": "jdbc:x://h?user=u&token=wombat%2Ftwo"})
    remember(["s3a://AKIA:abc/MARK5@bucket/docs"])
    assert redact("no login for quokka one") == "no login for ***"
    assert redact("no login for wombat/two") == "no login for ***"
    assert redact("Path does not exist: /MARK5@bucket/docs") == "Path does not exist: ***bucket/docs"


def test_key_that_begins_like_a_path_is_known() -> None:
    remember({"spark.hadoop.fs.s3a.secret.key": "/abcdMARK6"})
    assert redact("signed with /abcdMARK6, which is wrong") == "signed with ***, which is wrong"


def test_name_of_a_key_file_hides_no_path() -> None:
    remember({"spark.ssl.keyStore": "/lake/documents/store.jks"})
    assert redact("can't read /lake/documents/store.jks") == "can't read /lake/documents/store.jks"


def test_spark_hides_user_info_and_passwords_in_plans() -> None:
    """Spark replaces what its pattern finds, and writes the rest."""
    plan = "Location: [s3a://AKIA:a/b@bucket/x, abfss://box@lake.dfs/y?sv=1&sig=MARK], password=MARK, on=x"
    shown = re.sub(PLAN_PATTERN, "***", plan)
    assert shown == "Location: [s3a://***bucket/x, abfss://box@lake.dfs/y?sv=1&***], ***, on=x"


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run_job(EmbedSettings, lambda settings, context: None, words, name="embed")
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cnf", "fs.s3a.secret.key=MARK"], "unrecognized arguments: --cnf fs.s3a.secret.key=***"),
        (["--password", "MARK", "MARK"], "unrecognized arguments: --password *** ***"),
        (["--modle", "s3://k:a/MARK@b"], "unrecognized arguments: --modle s3://***@b"),
        (["--option", "password=one", "MARK"], "--option: got a word without =; expected KEY=VALUE"),
        (["--option", "password:MARK"], "--option: got a word without =; expected KEY=VALUE"),
        (["--option", "header"], "--option: got 'header'; expected KEY=VALUE"),
        (["--max-tokens", "s3://k:MARK@b"], "argument --max-tokens: invalid int value: 's3://***@b'"),
    ],
    ids=[
        "unknown option",
        "words behind it",
        "URI",
        "blank in a value",
        "no equals sign",
        "harmless",
        "number",
    ],
)
def test_command_line_that_is_refused_shows_no_secret(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run(words, capsys)
    assert code == 2
    assert told in error
    assert "MARK" not in error


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "conf:\n  password: 'MARK\n",
            "while scanning a quoted scalar, found unexpected end of stream, in line",
        ),
        (
            "conf:\n  password: !MARK x\n",
            "could not determine a constructor for the tag '...', in line 2, column 13",
        ),
        ("password: %MARK\n", "cannot start any token, in line 1, column 11"),
        ("conf: {password: !!int MARK}\n", "got ValueError"),
        ("conf: {password: [MARK}\n", "expected ',' or ']', but got '}', in line 1"),
    ],
    ids=["open quote", "tag", "sign", "number", "bracket"],
)
def test_settings_file_that_is_no_yaml_shows_no_line_of_it(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text(content)
    code, error = run(["--config", str(tmp_path / "job.yaml")], capsys)
    assert code == 2
    assert told in error
    assert "MARK" not in error


def test_unknown_job_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert lakevec(["s3://k:a/MARK@bucket"]) == 2
    assert capsys.readouterr().err.startswith("lakevec: unknown command 's3://***@bucket': expected one of ")


def test_traceback_of_any_error_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    run(["--cnf"], capsys)  # any command hides secrets from then on
    sys.excepthook(ValueError, ValueError("no bucket s3://key:a/MARK@bucket"), None)
    assert capsys.readouterr().err == "ValueError: no bucket s3://***@bucket\n"


def test_verbose_error_is_redacted_and_keeps_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: EmbedSettings, context: RunContext) -> None:
        raise LakevecError("outer") from ValueError("jdbc:x://h?password=MARK")

    words = ["--model", "m", "--input", "i", "--text", "t", "--output", "o", "--verbose"]
    assert run_job(EmbedSettings, fail, words, name="embed") == 1
    error = capsys.readouterr().err
    assert "ValueError: jdbc:x://h?password=***" in error
    assert error.endswith("lakevec embed: outer\n")


def test_run_tells_the_settings_that_differ_and_verbose_all() -> None:
    given_settings: dict[str, Any] = {**REQUIRED, "key": "id", "conf": {"a.token": "MARK", "spark.x": "1"}}
    settings = EmbedSettings(**given_settings)
    assert format_settings(settings) == (
        "settings:\n  model: m\n  output: o\n  key: id\n  input:\n  - i\n  text:\n  - t\n"
        "  conf:\n    a.token: '***'\n    spark.x: '1'"
    )
    assert "\n  batch_rows: 10000\n" in format_settings(settings, full=True)
    assert settings.to_record().keys() == EmbedSettings.model_fields.keys()
