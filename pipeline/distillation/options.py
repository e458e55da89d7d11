"""Options of teachers and of distillation: plain dataclasses, since executors lack torch and pydantic."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from lakevec.pipeline.distillation.weighting import TokenCounts
    from lakevec.pipeline.distillation.word_list import WordList

    T = TypeVar("T", bound=DataclassInstance)

Dimensions = int | float | Literal["auto", "none"]
TableType = Literal["float32", "float16", "int8"]
UNUSED_TOKENS = r"\[unused\d+\]"


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """How a teacher is loaded and run.

    Parameters
    ----------
    revision : str, optional
        Branch, tag or commit of a hub teacher.
    device : str, default="auto"
        torch device. ``auto`` is cuda if there is one, else cpu.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}, default="auto"
        Arithmetic of the forward pass. ``auto`` is float16 on cuda and float32 on cpu. ``int8`` is for whole
        texts on a cpu.
    batch_size : int, default=64
        Maximum number of texts per forward pass. On a cpu, 512 tokens are the maximum too.
    trust_remote_code : bool, default=False
        Run Python code from the teacher's repository.
    """

    revision: str | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    batch_size: int = 64
    trust_remote_code: bool = False


@dataclass(frozen=True, kw_only=True)
class DistillOptions(TeacherOptions):
    """How a Sentence Transformer becomes a table. The defaults are those of ``lakevec distill``.

    Parameters
    ----------
    batch_size : int, default=256
        Tokens per forward pass.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        As in `TeacherOptions`, without int8.
    name : str, optional
        The teacher's name in records. Default: its hub id, or its folder's name.
    recipe : str, optional
        Name of a published recipe that these options follow; affects the record only.
    mode : {"output", "input", "vocabulary", "word"}, optional
        ``output``: run each of the teacher's tokens through the teacher. ``input``: take the tokens' input
        embeddings. ``vocabulary``: run the teacher's tokens and `words`. ``word``: run `words` alone.
        Default: ``vocabulary`` if there are words, else ``output``.
    words : WordList, optional
        Words to give a row each, most frequent first.
    pooling : {"auto", "mean", "first", "last", "pooler", "token"}, default="auto"
        How to pool the teacher's hidden states. ``auto`` follows the Sentence Transformer, including its
        Dense layers and default prompt.
    special_tokens : {"teacher", "reversed"}, default="teacher"
        Order of the special tokens around each token; model2vec 0.1 reversed it.
    keep_special_tokens : bool, default=False
        Keep rows of tokens that occur in no text, such as ``[CLS]``.
    prompt : str, optional
        Text before each token. Default: none, or the teacher's own with pooling ``auto``.
    dimensions : int, float, "auto" or "none", default=256
        Width D of the table by PCA: a number, a share of the variance, the teacher's width, or no PCA.
    weighting : {"sif", "zipf", "none"}, default="sif"
        ``sif``: a / (a + p). ``zipf``: log(1 + rank).
    counts : TokenCounts, optional
        Measured token counts, which refine the Zipf prior.
    counts_share : float, default=0.5
        Share of the counts in p, in (0, 1]; 1 ignores the Zipf prior.
    sif_coefficient : float, optional
        a, in (0, 1). Default: 0.0001, or 0.0005 with counts.
    axes : {"tokens", "texts"}, optional
        How PCA weighs tokens: ``tokens`` equally, ``texts`` by frequency and weight in texts. Default:
        ``tokens``, or ``texts`` with counts.
    whitening : float, optional
        W, in [0, 1]: divide each axis by its variance ** (W / 2). Default: 0, or 0.5 with counts.
    input_columns : int, default=0
        Number of columns of the teacher's input embeddings to put beside 256 of its output, before PCA to
        `dimensions`, which must then be a number.
    position_scale : float, optional
        Position whose token counts half; see `StaticTable`. Default: all tokens count alike.
    normalize : bool, default=True
        Scale every text vector to length 1.
    dtype : {"float32", "float16", "int8"}, default="float32"
        Data type of the stored rows.
    int8_scale : {"token", "table"}, default="token"
        Scale of int8 rows: one per token, or one for the table as in model2vec.
    vocabulary_clusters : int, optional
        Number of k-means clusters; all tokens of a cluster share one row.
    token_remove_pattern : str or None
        Remove tokens that begin with a match of this regular expression. Default: unused tokens.

    Examples
    --------
    >>> DistillOptions(dimensions=128, dtype="int8").dimensions
    128
    """

    batch_size: int = 256
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    name: str | None = None
    recipe: str | None = None
    mode: Literal["output", "input", "vocabulary", "word"] | None = None
    words: WordList | None = None
    pooling: Literal["auto", "mean", "first", "last", "pooler", "token"] = "auto"
    special_tokens: Literal["teacher", "reversed"] = "teacher"
    keep_special_tokens: bool = False
    prompt: str | None = None
    dimensions: Dimensions = 256
    weighting: Literal["sif", "zipf", "none"] = "sif"
    counts: TokenCounts | None = None
    counts_share: float = 0.5
    sif_coefficient: float | None = None
    axes: Literal["tokens", "texts"] | None = None
    whitening: float | None = None
    input_columns: int = 0
    position_scale: float | None = None
    normalize: bool = True
    dtype: TableType = "float32"
    int8_scale: Literal["token", "table"] = "token"
    vocabulary_clusters: int | None = None
    token_remove_pattern: str | None = UNUSED_TOKENS


def copy_options(source: object, kind: type[T], **others: Any) -> T:
    """Make `kind` from the attributes of `source` that match its fields; `others` take precedence."""
    shared = {
        field.name: getattr(source, field.name) for field in fields(kind) if hasattr(source, field.name)
    }
    return kind(**{**shared, **others})
