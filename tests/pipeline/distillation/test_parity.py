"""Every combination that model2vec 0.10 offers, beside model2vec itself, on all-MiniLM-L6-v2.

What the teacher says is kept between combinations, since only forward passes take long. Usually a part of the
vocabulary is tried, and all of it in `test_distill_recipe.py`; with ``LAKEVEC_WHOLE=1`` every combination
is tried on the whole vocabulary, which takes ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.distillation import recipe
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.table import StaticTable
from tests.support.paths import IS_WHOLE
from tests.support.tiny_teacher import distill_as

UNUSED = r"\[unused\d+\]"
FEW = UNUSED if IS_WHOLE else UNUSED + r"|##|[^a0-9.,\[\]]"
WORDS = ["apotropaic", "bricolage", "blockchain", "Beekeeper", "beautiful day", "b+", "and", "bricolage"]


@pytest.fixture(scope="module")
def kept() -> Iterator[None]:
    """Keep what the teacher said, for both libraries: same sequences and pooling, same rows."""
    reference = pytest.importorskip("model2vec.distill.distillation", reason="model2vec is not installed")
    said: dict[Any, np.ndarray] = {}

    def keep(owner: Any, name: str) -> Any:
        original = getattr(owner, name)

        def wrapper(*args: Any, **options: Any) -> np.ndarray:
            sequences = options.get("tokenized") or args[1].ids
            key = (name, str(options["pooling"]), len(sequences), tuple(map(tuple, sequences[-20:])))
            if key not in said:
                said[key] = original(*args, **options)
            return said[key].copy()

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "create_embeddings", keep(reference, "create_embeddings"))
        patch.setattr(recipe, "embed_sequences", keep(recipe, "embed_sequences"))
        yield


@pytest.fixture(scope="module")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("\n".join(WORDS))
    return str(file)


def make_both(
    minilm_folder: Path, theirs: dict[str, Any], ours: dict[str, Any], *, pattern: str
) -> tuple[Any, StaticTable]:
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder))
    # This one pads every text to 128 tokens, and model2vec would average a new word over its padding.
    tokenizer.backend_tokenizer.no_padding()
    model = AutoModel.from_pretrained(str(minilm_folder))
    reference = distill_from_model(model, tokenizer, token_remove_pattern=pattern, **theirs)
    settings = {"recipe": "model2vec-0.10", "dtype": "float32", **ours, "token_remove_pattern": pattern}
    return reference, distill_as(minilm_folder, **settings).table


def assert_parity(reference: Any, table: StaticTable, texts: list[str]) -> None:
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    assert [tokenizer.id_to_token(row) for row in range(table.rows)] == list(reference.tokens)
    theirs = reference.encode(texts, max_length=None).astype(np.float64)
    ours = Encoder(table).encode(pa.array(texts)).vectors.astype(np.float64)
    lengths = np.linalg.norm(theirs, axis=1)
    theirs, ours = theirs + 1e-30, ours + 1e-30
    assert ((lengths > 0.5) == (np.linalg.norm(ours, axis=1) > 0.5)).all()
    assert (lengths > 0.5).sum() > 900
    # Lengths of float16 vectors are only near 1.
    theirs, ours = ((each / np.linalg.norm(each, axis=1)[:, None])[lengths > 0.5] for each in (theirs, ours))
    # An axis has no sign of its own.
    signs = np.where((theirs * ours).sum(axis=0) < 0, -1, 1)
    assert (theirs * (ours * signs)).sum(axis=1).min() >= 0.9999
    assert np.abs(theirs @ theirs.T - ours @ ours.T).max() <= 1e-3


MODES = {"output": [], "vocabulary": WORDS}
WEIGHTINGS = ("sif", "none") if IS_WHOLE else ("sif",)
DTYPES = ("float32", "float16", "int8") if IS_WHOLE else ("float32",)
COMBINATIONS = [
    chosen
    for chosen in product(MODES, ("mean", "first", "last", "pooler"), WEIGHTINGS, DTYPES)
    if IS_WHOLE
    or chosen[:2]
    in {("output", "mean"), ("vocabulary", "first"), ("output", "last"), ("vocabulary", "pooler")}
]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("mode", "pooling", "weighting", "dtype"),
    COMBINATIONS,
)
def test_combination_gives_model2vecs_tokens_and_vectors(
    mode: str,
    pooling: str,
    weighting: str,
    dtype: str,
    minilm_folder: Path,
    general_texts: list[str],
    words_file: str,
) -> None:
    theirs = {"vocabulary": MODES[mode] or None, "pooling": pooling, "quantize_to": dtype}
    theirs["sif_coefficient"] = {"sif": 1e-4, "none": None}[weighting]
    ours = {"mode": mode, "pooling": pooling, "weighting": weighting, "dtype": dtype}
    ours |= {"vocabulary": {"vocabulary": words_file}}.get(mode, {})
    assert_parity(*make_both(minilm_folder, theirs, ours, pattern=FEW), general_texts[:8000:8])


NUMBERS = {
    "int8": ({"quantize_to": "int8"}, {"dtype": "int8"}),
    "int8, no weights": (
        {"quantize_to": "int8", "sif_coefficient": None},
        {"dtype": "int8", "weighting": "none"},
    ),
    "float16": ({"quantize_to": "float16"}, {"dtype": "float16"}),
}
REDUCTIONS = {
    "no weights": ({"sif_coefficient": None}, {"weighting": "none"}),
    "share of variance": ({"pca_dims": 0.9}, {"dimensions": 0.9}),
    "all axes": ({"pca_dims": "auto"}, {"dimensions": "auto"}),
    "no PCA": ({"pca_dims": None}, {"dimensions": "none"}),
    "64 dimensions": ({"pca_dims": 64, "sif_coefficient": 1e-3}, {"dimensions": 64, "sif_coefficient": 1e-3}),
    "clusters": (
        {"vocabulary_quantization": 128, "pca_dims": 64},
        {"vocabulary_clusters": 128, "dimensions": 64},
    ),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", [*(name for name in NUMBERS if IS_WHOLE or name != "int8"), *REDUCTIONS])
def test_what_comes_after_the_teacher_gives_model2vecs_vectors(
    name: str, minilm_folder: Path, general_texts: list[str]
) -> None:
    """With weights, the one scale of int8 is that of rare tokens, and needs them all."""
    theirs, ours = {**NUMBERS, **REDUCTIONS}[name]
    reference, table = make_both(minilm_folder, {"quantize_to": "float32", **theirs}, ours, pattern=FEW)
    assert table.dimensions == reference.dim
    assert_parity(reference, table, general_texts[:8000:8])


@pytest.mark.usefixtures("kept")
def test_rows_with_their_own_scale_lose_less_than_with_one(
    minilm_folder: Path, general_texts: list[str]
) -> None:
    whole, one, each = (
        make_both(minilm_folder, {}, ours, pattern=FEW)[1]
        for ours in ({}, {"dtype": "int8"}, {"dtype": "int8", "int8_scale": "token"})
    )
    assert each.embeddings.nbytes == whole.embeddings.nbytes / 4
    texts = pa.array(general_texts[:1000])
    vectors = [Encoder(table).encode(texts).vectors for table in (whole, one, each)]
    vectors = [each[vectors[0].any(axis=1)] for each in vectors]  # fewer tokens know fewer texts
    assert len(vectors[0]) > 900
    by_table, by_token = (float((vectors[0] * other).sum(axis=1).min()) for other in vectors[1:])
    assert by_token > 0.999 > by_table
