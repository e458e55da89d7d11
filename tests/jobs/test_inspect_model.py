from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lakevec.pipeline.heads.head import Head, HeadKind
from lakevec.pipeline.heads.head_folder import publish_head
from lakevec.pipeline.model.description import nearest_tokens
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import inspect as main
from tests.support.paths import ROOT


def test_everything_one_wants_to_know_is_told(tiny_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([tiny_model, "--words", "north", "nowhere", "--neighbours", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = {line[:12].strip(): line[13:] for line in lines[:10]}
    assert facts["table"] == "4 tokens x 2 dimensions, float32, 0.0 MB"
    assert facts["vectors"] == "not normalised"
    assert facts["teacher"] == "by hand, revision 1"
    assert facts["unknown"] == "[UNK], id 0, left out of the mean"
    assert facts["split rule"] == "white space: each distinct segment is tokenized once"
    assert facts["tokenizer"] == "WordLevel (normalizers: Lowercase; pre-tokenizers: WhitespaceSplit)"
    assert lines[-2:] == ["  north      north 1.00, east 0.00", "  nowhere    no known token"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bert-base-uncased", "bert: each distinct segment is tokenized once"),
        ("gpt2", "single space: each distinct segment is tokenized once"),
        ("ort-nmt", "none: every text is tokenized whole, which is slower"),
    ],
)
def test_split_rule_of_every_family_is_visible(
    name: str, told: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer_json = (shared_data / "tokenizers" / name / "tokenizer.json").read_text()
    from tokenizers import Tokenizer

    rows = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    table = StaticTable(np.ones((rows, 2), np.float32), tokenizer_json)
    publish(table, str(tmp_path / "model"), provenance={}, quality={})
    assert main([str(tmp_path / "model")]) == 0
    assert f"split rule   {told}\n" in capsys.readouterr().out


def test_nearest_tokens_leave_out_rows_of_zeros(tiny_table: StaticTable) -> None:
    found = nearest_tokens(tiny_table, np.array([0, -2], np.float32), 10)
    assert [token for token, _ in found] == ["southwest", "east", "north"]
    np.testing.assert_allclose([cosine for _, cosine in found], [np.sqrt(0.5), 0, -1], atol=1e-6)


def test_reader_that_leaves_early_makes_no_error(tiny_model: str) -> None:
    """Such as ``lakevec inspect MODEL | head``."""
    argv = [sys.executable, "-m", "lakevec.jobs.cli", "inspect", tiny_model]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        job.stdout.close()
        assert job.stderr is not None
        assert job.stderr.read() == ""
    assert job.returncode == 1


def test_missing_model_says_how_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr().err
    assert told.startswith("lakevec inspect: options: 'model' is missing: expected ")
    assert told.endswith("hf://organisation/name; give MODEL or put 'model' into the configuration file\n")


def test_damaged_model_is_refused(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(tiny_model, tmp_path / "model")
    content = bytearray((tmp_path / "model" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model" / "model.safetensors").write_bytes(content)
    assert main([str(tmp_path / "model")]) == 2
    assert "model.safetensors is damaged" in capsys.readouterr().err


def test_place_that_can_not_be_looked_at_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/" + "a" * 300]) == 2
    told = capsys.readouterr().err
    assert told.startswith("lakevec inspect: model '/aaa")
    assert "can't be read: got " in told


def test_head_in_the_hubs_cache_is_told_like_one_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As huggingface_hub lays the cache out, read without a network."""
    cache = tmp_path / "models--org--way"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("c" * 40)
    rows, zeros = np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    head = Head("way", HeadKind.CLASSIFICATION, "sha256:0", rows, zeros, ("a", "b"))
    publish_head(head, str(cache / "snapshots" / ("c" * 40)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert main(["hf://org/way"]) == 0
    assert "labels       2 of type string: a, b" in capsys.readouterr().out
    assert main(["hf://org/absent"]) == 2
    assert "'hf://org/absent' can't be fetched from the Hugging Face hub" in capsys.readouterr().err
