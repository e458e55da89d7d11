"""BPEmb: vectors of the tokens of a SentencePiece model.

SentencePiece's own definition reads the protocol buffer. The result is a `tokenizers` model, so executors
need no SentencePiece.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.errors import ModelError, requires_extra
from lakevec.pipeline.model.formats.foreign_model import ForeignModel, list_files, make_table, without_limits
from lakevec.pipeline.model.formats.word_vectors import read_word_vectors
from lakevec.pipeline.storage import Location

_SPACE = "▁"
_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _BYTE = 1, 2, 6


def read_bpemb(file: Location) -> ForeignModel:
    """Read ``NAME.model``, and the vectors of its tokens in ``NAME.*.w2v.bin`` or ``NAME.*.w2v.txt``."""
    found = read_word_vectors(_find_vectors(file))
    row_of = {word: row for row, word in enumerate(found.words)}
    tokenizer = without_limits(lambda: read_sentencepiece(file.read_bytes(), lowers=True), file.path)
    vocabulary = Tokenizer.from_str(tokenizer).get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    missing = sum(token not in row_of for token in tokens)
    if missing:
        raise ModelError(
            f"{file.path} and its vectors do not belong together",
            got=f"{missing} of {len(tokens)} pieces without a vector",
            expected="a vector for each piece",
        )
    rows = found.vectors[[row_of[token] for token in tokens]]
    table = make_table(rows, tokenizer, normalize=False, pools_unknown=True)
    return ForeignModel(table, "BPEmb", case="texts are lowered and digits become 0, as BPEmb does")


def read_sentencepiece(content: bytes, *, lowers: bool = False) -> Tokenizer:
    """Convert the content of a ``.model`` file to a tokenizer.

    Parameters
    ----------
    content : bytes
    lowers : bool, default=False
        Lower texts and replace digits by 0 first, as BPEmb does.

    Raises
    ------
    SetupError
        If sentencepiece is not installed.
    ValueError
        If the model is neither BPE nor Unigram.
    """
    with requires_extra("convert", "a SentencePiece model"):
        from sentencepiece import sentencepiece_model_pb2 as definition
    proto: Any = getattr(definition, "ModelProto").FromString(content)  # noqa: B009  (made when it is imported)
    tokenizer = Tokenizer(_make_model(proto))
    tokenizer.normalizer = normalizers.Sequence(_make_normalizers(proto.normalizer_spec, lowers=lowers))
    scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    return tokenizer


def _make_model(proto: Any) -> Any:
    tokens = [(piece.piece, piece.score) for piece in proto.pieces]
    unknown = next(number for number, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN)
    if proto.trainer_spec.model_type == _UNIGRAM:
        has_bytes = any(piece.type == _BYTE for piece in proto.pieces)
        return models.Unigram(tokens, unk_id=unknown, byte_fallback=has_bytes)
    if proto.trainer_spec.model_type != _BPE:
        raise ValueError(f"model type {proto.trainer_spec.model_type}, expected BPE or Unigram")
    vocabulary = {token: number for number, (token, _) in enumerate(tokens)}
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}
    merges = []
    # SentencePiece joins the pair whose result has the best score, so add merges in the order of scores.
    for whole, _ in sorted(scores.items(), key=lambda entry: -entry[1]):
        pairs = [(whole[:middle], whole[middle:]) for middle in range(1, len(whole))]
        merges += [pair for pair in pairs if pair[0] in scores and pair[1] in scores]
    return models.BPE(vocabulary, merges, unk_token=tokens[unknown][0], fuse_unk=True)


def _make_normalizers(spec: Any, *, lowers: bool) -> list[Any]:
    parts: list[Any] = []
    if lowers:
        parts += [normalizers.Lowercase(), normalizers.Replace(Regex(r"\d"), "0")]
    if spec.precompiled_charsmap:
        parts.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        parts += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    return parts


def _find_vectors(file: Location) -> Location:
    stem = file.name.removesuffix(".model")
    beside = [each for each in list_files(file.parent) if each.name.startswith(f"{stem}.")]
    found = [each for each in beside if each.name.endswith((".w2v.bin", ".w2v.txt"))]
    if len(found) != 1:
        got = f"{len(found)} files {stem}.*.w2v.bin or .w2v.txt"
        raise ModelError(f"vectors of {file.path}", got=got, expected="one such file")
    return found[0]
