"""What a model of another library is: its table, and how that library would treat a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from tokenizers import Tokenizer

from lakevec.pipeline.errors import LakevecError, ModelError
from lakevec.pipeline.model.safe_files import read_document, read_regular
from lakevec.pipeline.model.table import (
    StaticTable,
    check_token_ids,
    find_unknown_token_id,
    is_tokenizers_own,
)
from lakevec.pipeline.storage import Location


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A model as another library wrote it.

    Parameters
    ----------
    table : StaticTable
    format : str
        Name of the format.
    behaviour : dict of str to str
        What happens to unknown words, long texts and lengths of vectors.
    facts : dict
        What else the files tell, such as the teacher.
    """

    table: StaticTable
    format: str
    behaviour: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)

    def to_provenance(self) -> dict[str, Any]:
        """Return what to record about where the table comes from."""
        return {"source": {"format": self.format, **self.behaviour}, **self.facts}


LEFT_OUT = "left out of the mean"
POOLED = "counted in the mean, with the unknown token's row"
NOT_CUT = "no text is cut"
SCALED, AS_THEY_ARE = "scaled to length 1", "not normalised"


def normalisation(*, normalize: bool) -> str:
    """Say whether vectors are scaled."""
    return SCALED if normalize else AS_THEY_ARE


def read_tensors(file: Location) -> dict[str, np.ndarray]:
    """Read a safetensors file.

    Parameters
    ----------
    file : Location

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ModelError
        If it is none.
    """
    try:
        tensors: dict[str, np.ndarray] = safetensors.numpy.load(read_regular(file))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"{file.path} can't be read", got=str(error)) from None
    return tensors


def read_json(file: Location) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    file : Location

    Returns
    -------
    dict

    Raises
    ------
    ModelError
        If it is none.
    """
    try:
        content = read_document(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file.path} can't be read", got=str(error)) from None
    if not isinstance(content, dict):
        raise ModelError(f"{file.path}", got=type(content).__name__, expected="a JSON object")
    return content


def read_tokenizer(file: Location) -> str:
    """Read a tokenizer and take away what would cut, pad or add to a text.

    Parameters
    ----------
    file : Location

    Returns
    -------
    str
        The `tokenizers` serialisation.

    Raises
    ------
    ModelError
        If the `tokenizers` library can't read it.
    """
    return without_limits(lambda: Tokenizer.from_str(read_regular(file).decode()), file.path)


def without_limits(make: Callable[[], Tokenizer], name: str) -> str:
    """Return a tokenizer's serialisation without truncation, padding and post-processor.

    Parameters
    ----------
    make : callable
        Makes the tokenizer.
    name : str
        For the error.

    Returns
    -------
    str

    Raises
    ------
    ModelError
        If it can't be made.
    """
    try:
        tokenizer = make()
        check_token_ids(tokenizer)  # before its serialisation, which lists every gap
        document = json.loads(tokenizer.to_str())
    except LakevecError:
        raise
    except BaseException as error:
        if not is_tokenizers_own(error):
            raise
        raise ModelError(f"{name} can't be read", got=str(error)) from None
    document.update(truncation=None, padding=None, post_processor=None)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def make_table(
    embeddings: np.ndarray,
    tokenizer_json: str,
    *,
    normalize: bool,
    weights: np.ndarray | None = None,
    mapping: np.ndarray | None = None,
    pools_unknown: bool = False,
) -> StaticTable:
    """Make a table of arrays as they were found.

    Parameters
    ----------
    embeddings, tokenizer_json, normalize, weights, mapping, pools_unknown
        As in `StaticTable`, of any type of number.

    Returns
    -------
    StaticTable
        With a zero row for an unknown token that is left out, so that libraries which count it in agree once
        vectors are normalised; and with weights where rows are int8, which Sentence Transformers needs.
    """
    _check_kinds(embeddings, weights, mapping)
    kind = embeddings.dtype if embeddings.dtype in (np.float16, np.int8) else np.float32
    with np.errstate(over="ignore"):  # what becomes infinite is refused with the table
        rows = np.array(embeddings, dtype=kind, order="C")
        factors = None if weights is None else np.array(weights, dtype=np.float32)
    unknown = None if pools_unknown else find_unknown_token_id(Tokenizer.from_str(tokenizer_json))
    if factors is None and (rows.dtype == np.int8 or (mapping is not None and unknown is not None)):
        factors = np.ones(len(rows if mapping is None else mapping), np.float32)
    if unknown is not None and factors is not None and unknown < len(factors):
        factors[unknown] = 0
    elif unknown is not None and mapping is None and unknown < len(rows):
        rows[unknown] = 0
    return StaticTable(
        rows,
        tokenizer_json,
        normalize=normalize,
        weights=factors,
        mapping=None if mapping is None else np.ascontiguousarray(mapping, dtype=np.int32),
        pools_unknown=pools_unknown,
    )


def _check_kinds(embeddings: np.ndarray, weights: np.ndarray | None, mapping: np.ndarray | None) -> None:
    """Refuse arrays that would lose something when they get a table's types."""
    for name, array, dimensions, kinds in (
        ("embeddings", embeddings, 2, "f"),
        ("weights", weights, 1, "f"),
        ("mapping", mapping, 1, "iu"),
    ):
        if array is None:
            continue
        is_kind = array.dtype.kind in kinds or (name == "embeddings" and array.dtype == np.int8)
        if array.ndim != dimensions or array.size == 0 or not is_kind:
            raise ModelError(
                name,
                got=f"{array.dtype} of shape {array.shape}",
                expected=f"{dimensions} dimensions of {'integers' if kinds == 'iu' else 'floats or int8'}",
            )
    if mapping is not None and not (mapping.min() >= 0 and mapping.max() < len(embeddings)):
        raise ModelError("mapping names rows that are not there", expected=f"rows below {len(embeddings)}")
