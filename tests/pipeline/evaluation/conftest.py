"""Models that the tests of evaluations share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable


@pytest.fixture(scope="session")
def potion(foreign_models: Path) -> StaticEmbeddingModel:
    return StaticEmbeddingModel("potion", load(str(foreign_models / "potion-base-4M-int8")).table)


@pytest.fixture(scope="session")
def hostile_model(tmp_path_factory: pytest.TempPathFactory, tiny_table: StaticTable) -> str:
    """The words of the tiny table with other vectors; its name is hostile to pages."""
    rows = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)
    folder = str(tmp_path_factory.mktemp("other") / "<b>&\"other'")
    publish(StaticTable(rows, tiny_table.tokenizer_json), folder, provenance={}, quality={})
    return folder


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Sentence Transformer of one layer and sixteen tokens."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("teacher") / "tiny-teacher"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "north", "east", "south", "##west", "west"]
    tokens += [f"word{number}" for number in range(6)]
    tokenizer = Tokenizer(
        models.WordPiece({token: row for row, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=16, **sizes)).save_pretrained(folder)
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder
