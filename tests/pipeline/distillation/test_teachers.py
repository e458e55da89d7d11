"""Teachers of every architecture: real classes of transformers with random weights, and real tokenizers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from lakevec.pipeline.distillation import inference
from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
from lakevec.pipeline.distillation.sentence_transformer_config import read_config
from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.model.table import StaticTable
from tests.support.paths import IS_WHOLE, SHARED_DATA
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


@pytest.mark.parametrize(
    ("pooling", "dense", "prompt"),
    [
        ("cls", 0, ""),
        ("mean", 0, ""),
        ("lasttoken", 0, ""),
        ("mean", 1, ""),
        ("cls", 2, ""),
        ("mean", 0, "query: "),
    ],
    ids=["cls", "mean", "last token", "one Dense", "two Dense", "prompt"],
)
def test_auto_does_what_the_sentence_transformer_does(
    pooling: str, dense: int, prompt: str, tmp_path: Path
) -> None:
    """Without PCA and weights a token's row is the vector that the library itself gives for it."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    layers = [
        models.Dense(16, 12, activation_function=torch.nn.Tanh()),
        models.Dense(12, 8, bias=False, activation_function=torch.nn.Identity()),
    ][:dense]
    options = {"prompts": {"query": prompt}, "default_prompt_name": "query"} if prompt else {}
    teacher = sentence_transformer(tmp_path, pooling, *layers, **options)
    made = distill_as(
        tmp_path / "teacher", dimensions="none", weighting="none", token_remove_pattern=FEW_WORDPIECES
    )
    tokens = ["a", "about", "apple", "basis"]
    tokenizer = Tokenizer.from_str(made.table.tokenizer_json)
    rows = made.table.dense_rows()[[tokenizer.token_to_id(token) for token in tokens]]
    np.testing.assert_allclose(rows, teacher.encode(tokens), atol=1e-5)
    recipe = made.provenance["recipe"]
    assert recipe["pooling"] == {"cls": "first", "mean": "mean", "lasttoken": "last"}[pooling]
    assert recipe["pooling_reason"] == "1_Pooling/config.json says so"
    assert (recipe.get("dense_layers", 0), recipe.get("prompt", "")) == (dense, prompt)


def other_stack(name: str) -> tuple[Any, list[Any]]:
    """Pooling and layers that lakevec does not compute itself."""
    from sentence_transformers.sentence_transformer import modules as models

    stacks: dict[str, tuple[Any, list[Any]]] = {
        "max": ("max", []),
        "weighted mean": ("weightedmean", []),
        "two poolings": (("mean", "max"), []),
        "layer norm": ("mean", [models.LayerNorm(16)]),
        "another activation": ("mean", [models.Dense(16, 12, activation_function=torch.nn.Softplus())]),
        "normalized before Dense": ("mean", [models.Normalize(), models.Dense(16, 12)]),
    }
    return stacks[name]


@pytest.mark.parametrize(
    "name",
    [
        "max",
        "weighted mean",
        "two poolings",
        "layer norm",
        "another activation",
        "normalized before Dense",
    ],
)
def test_modules_that_are_not_known_are_run_by_their_own_library(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    pooling, layers = other_stack(name)
    teacher = sentence_transformer(tmp_path, pooling, *layers)
    table = distill_plain(tmp_path / "teacher", token_remove_pattern=FEW_WORDPIECES)
    tokens = ["a", "about", "apple", "basis"]
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    rows = table.dense_rows()[[tokenizer.token_to_id(token) for token in tokens]]
    np.testing.assert_allclose(rows, teacher.encode(tokens), atol=1e-5)
    encoder = SentenceEncoder(str(tmp_path / "teacher"))
    np.testing.assert_allclose(encoder.encode(tokens), teacher.encode(tokens), atol=1e-5)
    assert encoder.width == rows.shape[1]
    few = {"token_remove_pattern": FEW_WORDPIECES}
    assert distill_plain(tmp_path / "teacher", pooling="mean", **few).rows > 100


def test_library_leaves_the_prompt_out_where_its_pooling_does(tmp_path: Path) -> None:
    teacher = sentence_transformer(tmp_path, "max", prompts={"q": "about: "}, default_prompt_name="q")
    teacher.set_pooling_include_prompt(False)
    teacher.save(str(tmp_path / "teacher"))
    table = distill_plain(tmp_path / "teacher", token_remove_pattern=FEW_WORDPIECES)
    tokens = ["a", "apple", "basis"]
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    rows = table.dense_rows()[[tokenizer.token_to_id(token) for token in tokens]]
    np.testing.assert_allclose(rows, teacher.encode(tokens), atol=1e-5)


def test_module_that_reads_ids_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    make_teacher("BERT", tmp_path / "transformer")
    vocabulary = json.loads((tmp_path / "transformer" / "tokenizer.json").read_text())["model"]["vocab"]
    sentence_transformer(tmp_path, "mean", models.WordWeights(sorted(vocabulary, key=vocabulary.get), {}))
    with pytest.raises(TeacherError, match="WordWeights reads token ids"):
        distill_plain(tmp_path / "teacher", token_remove_pattern=FEW_WORDPIECES)


def test_pickled_dense_layer_is_read_by_the_library(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    teacher = sentence_transformer(tmp_path, "mean", models.Dense(16, 12))
    [folder] = (tmp_path / "teacher").glob("*_Dense")
    torch.save(teacher[2].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    encoder = SentenceEncoder(str(tmp_path / "teacher"))
    np.testing.assert_allclose(encoder.encode(["apple"]), teacher.encode(["apple"]), atol=1e-5)


def test_code_of_a_teacher_never_runs_unasked(tmp_path: Path) -> None:
    sentence_transformer(tmp_path, "max")
    folder = tmp_path / "teacher"
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Pooling: ...\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(TeacherError, match=r"brings code of its own: .*run with --trust-remote-code"):
        distill_plain(folder)
    assert not (tmp_path / "ran").exists()


def test_module_of_another_package_is_never_taken_for_a_known_one(tmp_path: Path) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "own.Pooling"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    found = read_config(tmp_path, width=4)
    assert (found.pooling, found.has_foreign_code) == (None, True)
    assert found.reason == "its module own.Pooling is not of sentence-transformers"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"linear.weight": torch.ones(4, 4)}, "lacks its bias"),
        ({"linear.weight": torch.full((4, 4), torch.nan), "linear.bias": torch.ones(4)}, "NaN or infinite"),
    ],
    ids=["bias", "NaN"],
)
def test_dense_layer_that_is_not_whole_is_refused(
    tensors: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    names = ["Transformer", "Pooling", "Dense"]
    modules = [
        {"path": str(n), "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(names)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for number, config in (("1", {"pooling_mode_mean_tokens": True}), ("2", {"bias": True})):
        (tmp_path / number).mkdir()
        (tmp_path / number / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "2" / "model.safetensors")
    with pytest.raises(TeacherError, match=message):
        read_config(tmp_path, width=4)


def test_dense_layer_of_any_precision_is_read(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    sentence_transformer(tmp_path, "mean", models.Dense(16, 12))
    [folder] = (tmp_path / "teacher").glob("*_Dense")
    weights = load_file(folder / "model.safetensors")
    few = {"token_remove_pattern": FEW_WORDPIECES}
    expected = distill_plain(tmp_path / "teacher", **few).dense_rows()
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        save_file({name: row.to(kind) for name, row in weights.items()}, folder / "model.safetensors")
        np.testing.assert_allclose(
            distill_plain(tmp_path / "teacher", **few).dense_rows(), expected, atol=0.02
        )


@pytest.mark.parametrize(
    "config",
    [
        {"prompts": {"query": None}, "default_prompt_name": "query"},
        {"prompts": {"query": ""}, "default_prompt_name": "query"},
        {"prompts": {"query": "x"}, "default_prompt_name": "passage"},
        {"prompts": {"query": "x"}, "default_prompt_name": None},
        {"prompts": None, "default_prompt_name": "query"},
        {"prompts": ["query"], "default_prompt_name": "query"},
        {"prompts": {"query": 5}, "default_prompt_name": "query"},
    ],
)
def test_prompt_that_is_none_is_no_prompt(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert read_config(tmp_path, width=4).prompt == ""


def test_weights_that_the_file_lacks_are_never_made_up(tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    few = {"token_remove_pattern": FEW_WORDPIECES}
    without_pooler = {name: row for name, row in whole.items() if "pooler" not in name}
    save_file(without_pooler, file, metadata={"format": "pt"})
    assert distill_plain(tmp_path, **few).rows > 100
    with pytest.raises(TeacherError, match="lacks the weights of its pooler"):
        distill_plain(tmp_path, pooling="pooler", **few)
    name = "encoder.layer.0.intermediate.dense.weight"
    save_file({key: row for key, row in whole.items() if key != name}, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=f"lacks 1 weight: got none for {name}; expected every weight"):
        distill_plain(tmp_path)
    save_file({f"other.{key}": row for key, row in whole.items()}, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=r"lacks \d+ weights: got none for .*, \.\.\."):
        distill_plain(tmp_path)
    save_file(whole | {name: whole[name][:, :-1].contiguous()}, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=rf"another shape than its configuration: got {name} of shape"):
        distill_plain(tmp_path)


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


def test_slow_half_precision_is_told_with_both_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_teacher("BERT", tmp_path)
    monkeypatch.setattr(inference, "SLOW_RATIO", 0.0)
    distill_plain(tmp_path, precision="bfloat16", token_remove_pattern=FEW_WORDPIECES)
    assert re.search(
        r"precision bfloat16 makes [\d,]+ sequences/s on this CPU, float32 [\d,]+: --precision float32 is",
        capsys.readouterr().err,
    )


def test_teacher_without_a_pooler_is_refused(tmp_path: Path) -> None:
    make_teacher("DistilBERT", tmp_path)
    with pytest.raises(TeacherError, match="has no pooler: expected pooling mean, first or last"):
        distill_plain(tmp_path, pooling="pooler", token_remove_pattern=FEW_WORDPIECES)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.bias[3] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="has weights that are NaN or infinite"):
        load_teacher(str(tmp_path))


def test_tokenizer_of_another_teacher_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=100, **SMALL)
    make_teacher("BERT", tmp_path)
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(TeacherError) as caught:
        distill_plain(tmp_path)
    assert str(caught.value) == (
        "the teacher's tokenizer and its embeddings do not belong together: got token ids up to 30521 and "
        "100 embeddings; expected an embedding for each token"
    )


def test_input_mode_takes_the_embeddings_without_a_forward_pass(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    table = distill_plain(tmp_path, mode="input", token_remove_pattern=None)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    own = Tokenizer.from_str(table.tokenizer_json)
    ids = [vocabulary[own.id_to_token(row)] for row in range(table.rows)]
    expected = model.get_input_embeddings().weight.detach().numpy()[ids]
    expected[table.unknown_token_id] = 0
    np.testing.assert_array_equal(table.dense_rows(), expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_full_precision(precision: str, tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    few = {"token_remove_pattern": FEW_WORDPIECES}
    whole, half = distill_plain(tmp_path, **few), distill_plain(tmp_path, precision=precision, **few)
    error = np.abs(whole.dense_rows() - half.dense_rows()).max()
    assert 0 < error < 0.1


def test_float16_falls_back_to_float32_where_it_overflows(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    # Beyond float16's 65,504, and back again.
    with torch.no_grad():
        model.encoder.layer[0].intermediate.dense.bias += 1e5
        model.encoder.layer[0].output.dense.weight *= 1e-5
    model.save_pretrained(tmp_path)
    few = {"token_remove_pattern": FEW_WORDPIECES}
    np.testing.assert_array_equal(
        distill_plain(tmp_path, **few).dense_rows(),
        distill_plain(tmp_path, precision="float16", **few).dense_rows(),
    )


def test_recipe_of_the_first_model2vec(tmp_path: Path) -> None:
    """Written again from its description: [SEP] token [CLS], the token's own state, PCA, log of the rank."""
    model = make_teacher("BERT", tmp_path)
    table = distill_as(tmp_path, recipe="model2vec-0.1", dimensions=8).table
    assert not table.normalize
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    kept = [token for token in sorted(vocabulary, key=vocabulary.get) if not token.startswith("[unused")]
    own = Tokenizer.from_str(table.tokenizer_json)
    assert [own.id_to_token(row) for row in range(table.rows)] == kept
    ids = torch.tensor([[vocabulary["[SEP]"], vocabulary[token], vocabulary["[CLS]"]] for token in kept])
    with torch.inference_mode():
        states = torch.cat([model(input_ids=part).last_hidden_state[:, 1] for part in ids.split(512)])
    assert_is_reduced_and_ranked(table, states.double().numpy())


def assert_is_reduced_and_ranked(table: StaticTable, states: np.ndarray) -> None:
    """Compare with PCA by singular values and ``log(1 + i)``; the unknown token's row is never read."""
    centred = states - states.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = (centred @ axes[: table.dimensions].T) * np.log1p(np.arange(len(states)))[:, None]
    rows = table.dense_rows()[: len(states)].astype(np.float64)
    known = np.arange(len(states)) != table.unknown_token_id
    signs = np.sign((rows * expected).sum(axis=0))
    np.testing.assert_allclose(rows[known], (expected * signs)[known], atol=2e-3)


def test_first_recipe_with_words_takes_the_mean_over_their_own_pieces(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    words = ["the", "supervillain", "ganondorf", "of", "hyrule", "abracadabra", "invaded", "castle"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    given = {"mode": "word", "vocabulary": str(tmp_path / "words.txt")}
    table = distill_as(tmp_path, recipe="model2vec-0.1", dimensions=4, **given).table
    original = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    states = []
    for word in words:
        ids = original.encode(word, add_special_tokens=False).ids
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([[102, *ids, 101]])).last_hidden_state[0]
        states.append(output[1:-1].mean(dim=0).double().numpy())
    # The unknown token stands behind the words, at their mean, and so turns no axis.
    assert_is_reduced_and_ranked(table, np.array(states))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", '[{"path": "../other", "type": "x.Transformer"}]', "names a folder outside"),
        ("modules.json", '[{"path": "", "type": "x.Transformer"}, {"type": "x.Pooling"}]', "can't be read"),
        ("1_Pooling/config.json", "[]", "can't be read"),
        ("1_Pooling/config.json", '{"pooling_mode": 3}', "can't be read"),
        ("config_sentence_transformers.json", "[]", "can't be read"),
    ],
)
def test_modules_that_make_no_sense_are_refused(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    sentence_transformer(tmp_path, "mean")
    (tmp_path / "teacher" / file).write_text(content)
    with pytest.raises(TeacherError, match=message):
        load_teacher(str(tmp_path / "teacher"))


def test_prompt_longer_than_what_the_teacher_reads_is_refused(tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    with pytest.raises(TeacherError, match=r"got 603 tokens; expected at most 512; give a shorter --prompt"):
        distill_plain(tmp_path, prompt="a " * 600, token_remove_pattern=FEW_WORDPIECES)
