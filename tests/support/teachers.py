"""Teachers of every architecture: real classes of transformers with random weights, and real tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lakevec.pipeline.model.table import StaticTable
from tests.support.paths import SHARED_DATA
from tests.support.tiny_teacher import distill_as

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


BERT_TOKENS = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}


ROBERTA_TOKENS = {"unk": "<unk>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"}


GPT_TOKENS = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}


T5_TOKENS = {"unk": "<unk>", "eos": "</s>", "pad": "<pad>"}


# Name: class of the configuration, its options, tokenizer, special tokens, a pattern that leaves few tokens.
FEW_WORDPIECES, FEW_BYTES, FEW_MARKED = r"\[unused|##|[c-z]|[^\x00-\x7f]", r"Ġ?[^\WĠa-bA\d]", r"▁?[^\W▁ab]"


ARCHITECTURES: dict[str, tuple[Any, dict[str, Any], str, dict[str, str], str]] = {
    "BERT": (transformers.BertConfig, SMALL, "bert-base-uncased", BERT_TOKENS, FEW_WORDPIECES),
    "DistilBERT": (
        transformers.DistilBertConfig,
        {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
        "bert-base-uncased",
        BERT_TOKENS,
        FEW_WORDPIECES,
    ),
    "MPNet": (transformers.MPNetConfig, SMALL, "bert-base-uncased", BERT_TOKENS, FEW_WORDPIECES),
    "RoBERTa": (
        transformers.RobertaConfig,
        {**SMALL, "pad_token_id": 1},
        "roberta-base",
        ROBERTA_TOKENS,
        FEW_BYTES,
    ),
    "ModernBERT": (
        transformers.ModernBertConfig,
        {**SMALL, "pad_token_id": 50283},
        "ModernBERT-base",
        BERT_TOKENS,
        FEW_BYTES,
    ),
    "XLM-R": (
        transformers.XLMRobertaConfig,
        {**SMALL, "pad_token_id": 1},
        "xlm-roberta-base-rebuilt",
        ROBERTA_TOKENS,
        FEW_MARKED,
    ),
    "E5": (
        transformers.BertConfig,
        SMALL,
        "multilingual-e5-small-rebuilt",
        ROBERTA_TOKENS,
        FEW_MARKED,
    ),
    "GPT-2, decoder": (
        transformers.GPT2Config,
        {"n_embd": 16, "n_layer": 1, "n_head": 2},
        "gpt2",
        GPT_TOKENS,
        FEW_BYTES,
    ),
    "Qwen2, decoder": (
        transformers.Qwen2Config,
        {**SMALL, "num_key_value_heads": 2},
        "gpt2",
        GPT_TOKENS,
        FEW_BYTES,
    ),
    "T5, encoder": (
        transformers.T5Config,
        {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8},
        "t5-small",
        T5_TOKENS,
        FEW_MARKED,
    ),
}


def make_teacher(name: str, folder: Path) -> Any:
    """Save a teacher as its authors would, and return its model."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the evaluation data folder ../shared/data is not there")
    config_class, options, tokenizer_name, special, _ = ARCHITECTURES[name]
    file = SHARED_DATA / "tokenizers" / tokenizer_name / "tokenizer.json"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file), **{f"{role}_token": token for role, token in special.items()}
    )
    config = config_class(vocab_size=len(tokenizer), **options)
    torch.manual_seed(0)
    kind = transformers.AutoModelForTextEncoding if config.is_encoder_decoder else transformers.AutoModel
    model = kind.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def distill_plain(folder: Path, **settings: Any) -> StaticTable:
    """Distil without what comes after the teacher, so that rows are the teacher's own vectors."""
    plain = {"dimensions": "none", "weighting": "none", "normalize": False}
    return distill_as(folder, **{**plain, **settings}).table


def sentence_transformer(folder: Path, pooling: Any, *more: Any, **options: Any) -> Any:
    """Save a Sentence Transformer of the tiny BERT, and return it."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    make_teacher("BERT", folder / "transformer")
    torch.manual_seed(1)
    transformer = models.Transformer(str(folder / "transformer"))
    model = library.SentenceTransformer(
        modules=[transformer, models.Pooling(16, pooling_mode=pooling), *more], **options
    )
    model.save(str(folder / "teacher"))
    return model
