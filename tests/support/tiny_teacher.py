"""A Sentence Transformer small enough to train on in a second: real classes, random weights, few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from lakevec.jobs.distill import to_options
from lakevec.pipeline.distillation.recipe import DistillResult, distill
from lakevec.pipeline.settings.distill import DistillSettings

WIDTH = 24
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    f"{first}{last}"
    for first in "bdfgklmn"
    for last in ("a", "e", "i", "o", "u", "an", "en", "is", "or", "um")
]
# Words that no text of the lake holds.
UNSEEN = [f"x{word}" for word in WORDS[:20]]
# Options of a tuning that takes a second.
QUICK = ["--dimensions", "12", "--texts-per-step", "64", "--learning-rate", "0.005", "--piece-rows", "100"]


def tune_words(teacher: Path, lake: Path, output: Path) -> list[str]:
    """Return the options that every tuning on a lake with texts in `body` needs."""
    return ["--teacher", str(teacher), "--input", str(lake), "--text", "body", "--output", str(output)]


def make_tiny_teacher(folder: Path, *, seed: int = 0, max_tokens: int = 32) -> Path:
    """Save a BERT of one layer as Sentence Transformers saves one that averages and normalizes."""
    folder.mkdir(parents=True)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *WORDS, *UNSEEN])}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS) + len(UNSEEN),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    torch.manual_seed(seed)
    transformers.BertModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for n, (path, kind) in enumerate(modules)
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    return folder


def distill_as(teacher: Path, **settings: Any) -> DistillResult:
    """Distil as the command line does with these settings."""
    values = {"teacher": str(teacher), "output": "unused", **settings}
    options = to_options(DistillSettings.model_validate(values))
    return distill(str(teacher), options, progress=False)


def make_texts(texts: int, *, seed: int = 1) -> list[str]:
    """Sentences of frequent and rare words, all different."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(2, len(WORDS) + 2)
    found: dict[str, None] = {}
    while len(found) < texts:
        length = int(random.integers(2, 12))
        found[" ".join(random.choice(WORDS, size=length, p=shares / shares.sum()))] = None
    return list(found)
