"""The tokens of a table and the teacher's input for each, with tokenizers of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import TeacherError
from tests.support.paths import IS_WHOLE
from tests.support.teachers import (
    ARCHITECTURES,
    FEW_WORDPIECES,
    SMALL,
    distill_plain,
    make_teacher,
)
from tests.support.tiny_teacher import distill_as


# E5's tokenizer is that of XLM-R but for its tokens, and as large.
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if IS_WHOLE or name != "E5"])
def test_every_architecture_is_distilled_and_embeds(name: str, tmp_path: Path) -> None:
    """Rows are what the model says of a token among its special tokens; a new word is found whole."""
    model = make_teacher(name, tmp_path)
    (tmp_path / "words.txt").write_text("abracadabra\nabed\nbaba\nbarab")
    table = distill_plain(
        tmp_path, vocabulary=str(tmp_path / "words.txt"), token_remove_pattern=ARCHITECTURES[name][4]
    )
    own = Tokenizer.from_str(table.tokenizer_json)
    original = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    original.no_truncation()
    original.no_padding()
    rows = table.dense_rows()
    ids = original.encode(" abracadabra").ids
    word = own.encode("abracadabra", add_special_tokens=False).ids
    assert len(word) == 1
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    np.testing.assert_allclose(rows[word[0]], hidden.mean(dim=0).numpy(), atol=1e-5)
    # Each is made of frequent pieces, which must not win over it.
    for found in ("abed", "baba", "barab"):
        assert len(own.encode(found, add_special_tokens=False).ids) == 1
    vectors = Encoder(table).encode(pa.array(["an abracadabra", "abracadabra"])).vectors
    np.testing.assert_allclose(vectors[1], rows[word[0]], atol=1e-6)
    assert np.isfinite(vectors).all()
    assert vectors.any(axis=1).all()


def test_words_of_several_pieces_and_words_are_found_whole(minilm_folder: Path, tmp_path: Path) -> None:
    """The example of Model2Vec's own description, with a vocabulary and with words alone."""
    words = tmp_path / "words.csv"
    words.write_text("word,count\nhyrule,5\nsupervillain,9\nganondorf,7\nhas,1\ninvaded,2\nnew york,4\n")
    few: dict[str, Any] = {"dimensions": 4, "vocabulary": str(words)}
    few["token_remove_pattern"] = r"(?!super|gano|hyru|has$|inva|new|,|\[|##)"
    both = distill_as(minilm_folder, **few)
    text = "Supervillain Ganondorf has invaded Hyrule, New York"
    tokens = Tokenizer.from_str(both.table.tokenizer_json).encode(text).tokens
    assert [token.strip() for token in tokens] == [
        "supervillain",
        "ganondorf",
        "has",
        "invaded",
        "hyrule",
        ",",
        "new york",
    ]
    alone = distill_as(minilm_folder, **few, mode="word")
    tokenizer = Tokenizer.from_str(alone.table.tokenizer_json)
    assert tokenizer.encode(text).tokens == [
        *["supervillain", "ganondorf", "has", "invaded", "hyrule", "[UNK]", "new york"],
    ]
    assert tokenizer.get_vocab()["supervillain"] == 0  # most frequent first
    assert alone.provenance["recipe"]["mode"] == "word"
    assert alone.provenance["vocabulary"]["added"] == 6
    vectors = Encoder(alone.table).encode(pa.array([text, "Zelda"])).vectors
    assert vectors[0].any()
    assert not vectors[1].any()


def test_what_became_of_words_is_reported(minilm_folder: Path, tmp_path: Path) -> None:
    given = ["Zorkmid", "zorkmid", "zorkmid", "", "  ", "x" * 101, "the", "[☃]", "new york", "Ärger"]
    (tmp_path / "words.txt").write_text("\n".join(given))
    made = distill_as(
        minilm_folder,
        dimensions=4,
        vocabulary=str(tmp_path / "words.txt"),
        token_remove_pattern=r"(?!zork|the$|\[)",
    )
    report = made.provenance["vocabulary"]
    assert report == {
        "given": 10,
        "empty": 2,
        "too long": 1,
        "given before": 2,
        "changed by the normalizer": 2,
        "known already": 1,
        "removed by the pattern": 1,
        "not known to the teacher": 0,
        "added": 1,
        "added, of several words": 2,
        "not found whole": 0,
    }


def test_template_of_more_special_tokens_is_followed(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    file = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens(["<lang>", "<task>"])
    model.resize_token_embeddings(tokenizer.get_vocab_size())
    model.save_pretrained(tmp_path)
    names = ("[CLS]", "<lang>", "<task>", "[SEP]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] <lang> <task> $A <lang> [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
    tokenizer.save(str(file))
    table = distill_plain(tmp_path, token_remove_pattern=FEW_WORDPIECES)
    row = table.dense_rows()[Tokenizer.from_str(table.tokenizer_json).token_to_id("apple")]
    ids = torch.tensor([tokenizer.encode("apple").ids])
    with torch.inference_mode():
        expected = model.eval()(input_ids=ids).last_hidden_state.mean(dim=1)[0].numpy()
    np.testing.assert_allclose(row, expected, atol=1e-5)


def test_tokenizer_of_another_teacher_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=100, **SMALL)
    make_teacher("BERT", tmp_path)
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(TeacherError) as caught:
        distill_plain(tmp_path)
    assert str(caught.value) == (
        "the teacher's tokenizer and its embeddings don't match: got token ids up to 30521 and "
        "100 embeddings; expected an embedding for each token"
    )
