"""BPEmb and WordLlama give the vectors of their library."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.formats.bpemb import read_sentencepiece
from tests.support.libraries import (
    embed,
    write_word2vec,
)


@pytest.mark.parametrize("name", ["en.wiki.bpe.vs10000", "ja.wiki.bpe.vs5000"])
def test_bpemb_cuts_as_sentencepiece_does(
    name: str, shared_data: Path, general_texts: list[str], tmp_path: Path
) -> None:
    processors = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    file = shared_data / "tokenizers" / "bpemb-spm" / f"{name}.model"
    library = processors.SentencePieceProcessor(model_file=str(file))
    mine = read_sentencepiece(file.read_bytes(), lowers=True)
    import re

    prepared = [re.sub(r"\d", "0", text.lower()) for text in general_texts]
    ids = [encoding.ids for encoding in mine.encode_batch(general_texts, add_special_tokens=False)]
    assert ids == library.encode(prepared)

    shutil.copy(file, tmp_path)
    pieces = [library.id_to_piece(number) for number in range(library.get_piece_size())]
    vectors = np.random.default_rng(0).normal(size=(len(pieces), 3)).astype(np.float32)
    write_word2vec(tmp_path / f"{name}.d3.w2v.bin", pieces, vectors)
    expected = [vectors[row].mean(axis=0) for row in ids[:300]]
    np.testing.assert_allclose(embed(tmp_path, general_texts[:300]), expected, atol=1e-5)
    assert load(str(tmp_path)).provenance["source"]["format"] == "BPEmb"


def test_wordllama_gives_its_vectors(general_texts: list[str], tmp_path: Path) -> None:
    wordllama = pytest.importorskip("wordllama", reason="wordllama is not installed")
    root = Path(wordllama.__file__).parent
    weights, tokenizer = "l2_supercat_256.safetensors", "l2_supercat_tokenizer_config.json"
    for folder, file in (("weights", weights), ("tokenizers", tokenizer)):
        (tmp_path / folder).mkdir()
        shutil.copy(root / folder / file, tmp_path / folder)
    library = wordllama.WordLlama.load(cache_dir=tmp_path, disable_download=True)
    np.testing.assert_allclose(
        embed(tmp_path / "weights" / weights, general_texts[:300]),
        library.embed(general_texts[:300]),
        atol=1e-5,
    )
