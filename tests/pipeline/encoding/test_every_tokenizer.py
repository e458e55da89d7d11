"""A table on every tokenizer: published, loaded, embedded with on Spark, and exported to both libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.formats.foreign_model import make_table
from lakevec.pipeline.model.publishing import export, publish
from lakevec.udfs.column_functions import make_embed_udf
from tests.support.tokenizers import read_shared

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

NAMES = [
    "ModernBERT-base",
    "bert-base-cased",
    "bert-base-cased-rebuilt",
    "bert-base-chinese",
    "bert-base-multilingual-cased-rebuilt",
    "bert-base-uncased",
    "bpemb-spm/en.wiki.bpe.vs10000.model",
    "bpemb-spm/ja.wiki.bpe.vs5000.model",
    "clip",
    "djl-fake-with-padding",
    "gpt2",
    "model2vec-test_tokenizer",
    "multilingual-e5-small-rebuilt",
    "ort-nmt",
    "roberta-base",
    "skeletoken-small-bpe",
    "skeletoken-small-wordpiece",
    "t5-small",
    "t5-small/spiece.model",
    "vespa-real_tokenizer",
]


@pytest.mark.parametrize("name", NAMES)
def test_table_goes_all_the_way(name: str, spark: Any, general_texts: list[str], tmp_path: Path) -> None:
    library = pytest.importorskip("model2vec", reason="model2vec is not installed")
    other = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    tokenizer_json = read_shared(name)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    table = make_table(rows, tokenizer_json, normalize=True)
    publish(table, str(tmp_path / "model"), provenance={}, quality={})
    loaded = load(str(tmp_path / "model"))
    assert loaded.table.fingerprint == table.fingerprint

    # Of texts without a known token Sentence Transformers makes zeros or fails, by the number of them.
    texts = [text for text in general_texts[::500] if tokenizer.encode(text, add_special_tokens=False).ids]
    frame = spark.createDataFrame(list(enumerate(texts)), "id int, text string").repartition(2)
    embed = make_embed_udf(spark, str(tmp_path / "model"), node_dir=str(tmp_path))
    found = frame.select("id", embed("text").alias("v")).orderBy("id").collect()
    vectors = np.array([row.v for row in found], dtype=np.float32)

    export(loaded, str(tmp_path / "m2v"), to="model2vec")
    theirs = library.StaticModel.from_pretrained(tmp_path / "m2v", max_length=None).encode(texts)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)
    export(loaded, str(tmp_path / "st"), to="sentence-transformers")
    said = other.SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, said, atol=1e-5)


def test_tokenizer_that_the_library_can_not_read_is_refused() -> None:
    with pytest.raises(ModelError, match=r"llama2/tokenizer\.json can't be read"):
        read_shared("llama2")
