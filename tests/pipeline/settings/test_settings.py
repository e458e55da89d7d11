from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lakevec.jobs import reference
from lakevec.jobs.cli import RunContext, run_job
from lakevec.pipeline.errors import LakevecError, SettingsError
from lakevec.pipeline.settings.base import Settings, describe
from lakevec.pipeline.settings.corpus import CountSettings, MineSettings
from lakevec.pipeline.settings.distill import DistillSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.settings.evaluate import EvaluateSettings
from lakevec.pipeline.settings.loading import load_settings
from lakevec.pipeline.settings.tune import TuneSettings
from tests.support.paths import ROOT

REQUIRED = {"model": "m", "input": ["i"], "text": ["t"], "output": "o"}


def write(folder: Path, content: str) -> str:
    file = folder / "embed.yaml"
    file.write_text(content)
    return str(file)


def test_error_message_has_one_shape() -> None:
    error = LakevecError("thing", got="a", expected="b", remedy="do c")
    assert str(error) == "thing: got a; expected b; do c"
    assert str(LakevecError("thing")) == "thing"


def test_unknown_key_names_the_known_ones_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(EmbedSettings, write(tmp_path, "batchrows: 3\n"), REQUIRED)
    assert str(caught.value) == (
        "embed.yaml: unknown key 'batchrows': expected one of "
        f"{', '.join(sorted(EmbedSettings.model_fields))}; did you mean 'batch_rows'?"
    )


def test_missing_setting_says_how_to_give_it() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(EmbedSettings, None, {"model": "m", "input": ["i"], "text": ["t"]})
    assert str(caught.value) == (
        "options: 'output' is missing: expected folder or URI for the Parquet files; "
        "give --output or put 'output' into the configuration file"
    )


def test_wrong_value_says_what_was_given(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(EmbedSettings, write(tmp_path, "max_tokens: 0\n"), REQUIRED)
    assert str(caught.value) == (
        "embed.yaml: 'max_tokens' is not allowed: Input should be greater than or equal to 1: got 0"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "got list; expected a mapping of setting names to values"),
        ("a: [1\n", "is not readable YAML"),
        ("1: 2\n", "expected a mapping of setting names to values"),
    ],
    ids=["list", "syntax", "number as key"],
)
def test_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(SettingsError, match="configuration file") as caught:
        load_settings(EmbedSettings, write(tmp_path, content), REQUIRED)
    assert message in str(caught.value)


def test_file_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'nowhere\.yaml' does not exist"):
        load_settings(EmbedSettings, "nowhere.yaml", REQUIRED)


def test_command_line_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path, "batch_rows: 5\ncompression: snappy\n")
    settings = load_settings(EmbedSettings, file, {**REQUIRED, "batch_rows": 7})
    assert (settings.batch_rows, settings.compression, settings.format) == (7, "snappy", "parquet")


def test_one_value_may_stand_for_a_list_in_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, "input: lake\ntext: body\nkeep: id\n")
    settings = load_settings(EmbedSettings, file, {"model": "m", "output": "o"})
    assert (settings.input, settings.text, settings.keep) == (["lake"], ["body"], ["id"])


@pytest.mark.parametrize("name", ["{col}_x", "{column", "a}b"])
def test_embedding_column_with_other_braces_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="may hold no other braces than"):
        load_settings(EmbedSettings, None, {**REQUIRED, "embedding_column": name})


def test_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(SettingsError, match="'token_remove_pattern' is not allowed: must be a regular"):
        load_settings(DistillSettings, None, {"teacher": "t", "output": "o", "token_remove_pattern": "("})


@pytest.mark.parametrize(
    ("kind", "name", "without_default"),
    [
        (EmbedSettings, "embed.yaml", {"model", "input", "text", "output"}),
        (DistillSettings, "distill.yaml", {"teacher", "output"}),
        (CountSettings, "count.yaml", {"model", "input", "text", "output"}),
        (MineSettings, "mine.yaml", {"counts", "model", "output"}),
        (EvaluateSettings, "evaluate.yaml", {"output"}),
        (TuneSettings, "tune.yaml", {"teacher", "input", "text", "output"}),
    ],
    ids=["embed", "distill", "count", "mine", "evaluate", "tune"],
)
def test_shipped_configuration_shows_every_key_with_its_default(
    kind: type[Settings], name: str, without_default: set[str]
) -> None:
    text = (ROOT / "conf" / name).read_text()
    content = yaml.safe_load(text)
    defaults = {
        key: field.get_default(call_default_factory=True)
        for key, field in kind.model_fields.items()
        if key not in without_default
    }
    assert content == defaults
    for key in without_default:
        assert f"\n# {key}: " in text


def run(argv: list[str], seen: list[tuple[EmbedSettings, RunContext]]) -> int:
    return run_job(EmbedSettings, lambda *given: seen.append(given), argv, name="embed")


def test_command_line_reads_every_kind_of_option() -> None:
    seen: list[tuple[EmbedSettings, RunContext]] = []
    argv = (
        "--model m --input a b --input c --text t1 --text t2 --output o --keep id,url --keep day"
        " --option header=true sep=| --conf spark.x=a=b --max-tokens 9 --compression none --dry-run"
    )
    assert run(argv.split(), seen) == 0
    [(settings, context)] = seen
    assert (settings.input, settings.text) == (["a", "b", "c"], ["t1", "t2"])
    assert settings.keep == ["id", "url", "day"]
    assert settings.option == {"header": "true", "sep": "|"}
    assert settings.conf == {"spark.x": "a=b"}
    assert (settings.max_tokens, settings.compression) == (9, "none")
    assert (context.dry_run, context.verbose) == (True, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--modle m", "lakevec embed: unrecognized arguments: --modle m: see lakevec embed --help"),
        ("--max-tokens many", "lakevec embed: argument --max-tokens: invalid int value: 'many'"),
        ("--option header", "lakevec embed: --option: got 'header'; expected KEY=VALUE"),
    ],
    ids=["unknown option", "no number", "no pair"],
)
def test_wrong_command_line_is_one_line_and_exit_code_2(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split(), []) == 2
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_secrets_are_masked_where_settings_are_shown() -> None:
    settings = EmbedSettings(
        **{**REQUIRED, "input": ["s3://key:marker@bucket/x"]},
        option={"password": "marker", "header": "true"},
        conf={"spark.hadoop.fs.s3a.secret.key": "marker", "spark.hadoop.fs.s3a.access.key": "marker"},
    )
    record = settings.to_record()
    assert "marker" not in str(record)
    assert record["option"]["header"] == "true"
    assert record["input"] == ["s3://***@bucket/x"]


def distill_settings(**values: object) -> DistillSettings:
    return load_settings(DistillSettings, None, {"teacher": "t", "output": "o", **values})


def test_recipe_spells_out_settings_and_what_is_beside_it_wins() -> None:
    old = distill_settings(recipe="model2vec-0.1", normalize=True)
    assert (old.pooling, old.special_tokens, old.weighting, old.normalize) == (
        "token",
        "reversed",
        "zipf",
        True,
    )
    assert distill_settings().pooling == "auto"


@pytest.mark.parametrize(
    ("word", "value"), [("64", 64), ("0.95", 0.95), (".5", 0.5), ("auto", "auto"), ("none", "none")]
)
def test_dimensions_may_be_a_number_a_share_or_a_word(word: str, value: object) -> None:
    assert distill_settings(dimensions=word).dimensions == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dimensions": "0"}, "'dimensions' is not allowed"),
        ({"dimensions": "1.5"}, "'dimensions' is not allowed"),
        ({"dimensions": "all"}, "'dimensions' is not allowed"),
        ({"recipe": "model2vec-9"}, "'recipe' is not allowed"),
        ({"pooling": "max"}, "'pooling' is not allowed"),
        ({"mode": "word"}, "mode word needs a vocabulary"),
        ({"mode": "input", "vocabulary": "w.txt"}, "mode input takes no vocabulary"),
        (
            {"counts": "c.parquet", "weighting": "zipf", "axes": "tokens"},
            "counts need weighting sif or axes texts; otherwise they have no effect",
        ),
        (
            {"counts": "c.parquet", "weighting": "none", "dimensions": "none"},
            "counts need weighting sif or axes texts",
        ),
        (
            {"dimensions": "none", "whitening": 0.5},
            "axes and whitening need PCA, which",
        ),
        (
            {"dimensions": "none", "axes": "texts"},
            "axes and whitening need PCA, which",
        ),
        ({"whitening": 2}, "'whitening' is not allowed"),
        ({"counts_share": 0.3}, "counts_share needs counts"),
    ],
)
def test_distill_settings_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        distill_settings(**values)


def test_recipe_wins_over_a_file_that_only_names_defaults(tmp_path: Path) -> None:
    file = str(ROOT / "conf" / "distill.yaml")
    given = {"teacher": "t", "output": "o", "recipe": "model2vec-0.1"}
    assert load_settings(DistillSettings, file, given).weighting == "zipf"
    changed = tmp_path / "distill.yaml"
    changed.write_text("recipe: model2vec-0.1\nnormalize: true\nweighting: none\n")
    found = load_settings(DistillSettings, str(changed), {"teacher": "t", "output": "o"})
    assert (found.normalize, found.weighting, found.pooling) == (False, "none", "token")
    changed.write_text("recipe: [model2vec-0.1]\n")
    with pytest.raises(SettingsError, match="'recipe' is not allowed"):
        load_settings(DistillSettings, str(changed), {"teacher": "t", "output": "o"})


def test_error_that_nobody_expected_is_one_line_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: EmbedSettings, context: RunContext) -> None:
        raise ValueError("text of a row")

    words = ["--model", "m", "--input", "i", "--text", "t", "--output", "o"]
    assert run_job(EmbedSettings, fail, words, name="embed") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("lakevec embed: unexpected ValueError at settings/test_settings.py:")
    assert line.endswith(" in fail; run with --verbose for the traceback")
    assert run_job(EmbedSettings, fail, [*words, "--verbose"], name="embed") == 1
    assert "ValueError: text of a row" in capsys.readouterr().err


def test_error_behind_an_unexpected_one_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: EmbedSettings, context: RunContext) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise ValueError("text of a row") from error

    words = ["--model", "m", "--input", "i", "--text", "t", "--output", "o"]
    assert run_job(EmbedSettings, fail, words, name="embed") == 1
    assert "unexpected OSError, No space left on device at " in capsys.readouterr().err


def test_generated_files_are_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference.configuration_page(), "run make configuration"
    for command in reference.WITH_FILE:
        file = (ROOT / "conf" / f"{command}.yaml").read_text(encoding="utf-8")
        assert file == reference.configuration_file(command), "run make configuration"


def test_every_setting_is_described_in_words_that_end() -> None:
    for kind in reference.COMMANDS.values():
        for name, field in kind.model_fields.items():
            assert describe(field).endswith("."), (kind.__name__, name)
