"""A model of another library: its table, and how that library treats a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from pyarrow import fs as pafs
from tokenizers import Tokenizer

from lakevec.pipeline.errors import ModelError, rephrase
from lakevec.pipeline.model.safe_files import read_regular
from lakevec.pipeline.model.table import (
    StaticTable,
    check_mapping,
    check_token_ids,
    find_unknown_token_id,
    parsing_tokenizer,
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
    facts : dict
        Other facts in the files, such as the teacher.
    long_texts : str
        Whether the library truncates texts.
    case : str, optional
        How capitals are treated, in a format that defines it.
    """

    table: StaticTable
    format: str
    facts: dict[str, Any] = field(default_factory=dict)
    long_texts: str = "not truncated"
    case: str | None = None

    def to_provenance(self) -> dict[str, Any]:
        """Return what to record about the table's source."""
        pooled, left_out = "counted in the mean, with the unknown token's row", "left out of the mean"
        source = {
            "format": self.format,
            "unknown words": pooled if self.table.pools_unknown else left_out,
            "long texts": self.long_texts,
            "vectors": "scaled to length 1" if self.table.normalize else "not normalised",
        }
        if self.case is not None:
            source["case"] = self.case
        return {"source": source, **self.facts}


def list_files(folder: Location) -> list[Location]:
    """List the files in a folder."""
    return [folder / entry.base_name for entry in folder.list() if entry.type == pafs.FileType.File]


def read_tensors(file: Location) -> dict[str, np.ndarray]:
    """Read a safetensors file."""
    with rephrase(ModelError, f"{file.path} can't be read"):
        tensors: dict[str, np.ndarray] = safetensors.numpy.load(read_regular(file))
    return tensors


def read_tokenizer(file: Location) -> str:
    """Read a tokenizer's serialisation, without truncation, padding and post-processor."""
    return without_limits(lambda: Tokenizer.from_str(read_regular(file).decode()), file.path)


def without_limits(make: Callable[[], Tokenizer], name: str) -> str:
    """Make a tokenizer and serialise it without truncation, padding and post-processor.

    Errors name the file `name`.
    """
    with parsing_tokenizer(name):
        tokenizer = make()
        check_token_ids(tokenizer)  # before the serialisation, which lists every gap
        document = json.loads(tokenizer.to_str())
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
    """Make a table from the arrays of a file, and convert them to the table's types.

    If the unknown token is left out of means, its row becomes 0. Libraries that average it in then agree once
    vectors are normalised. int8 rows get weights, which Sentence Transformers needs.
    """
    _check_kinds(embeddings, weights, mapping)
    kind = embeddings.dtype if embeddings.dtype in (np.float16, np.int8) else np.float32
    with np.errstate(over="ignore"):  # the table refuses infinite values
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
    """Refuse arrays that lose information in the table's types."""
    for name, array, dimensions, numbers, kinds in (
        ("embeddings", embeddings, 2, "floats or int8", "f"),
        ("weights", weights, 1, "floats", "f"),
        ("mapping", mapping, 1, "integers", "iu"),
    ):
        if array is None:
            continue
        is_kind = array.dtype.kind in kinds or (name == "embeddings" and array.dtype == np.int8)
        if array.ndim != dimensions or array.size == 0 or not is_kind:
            expected = f"{dimensions} dimensions of {numbers}"
            raise ModelError(name, got=f"{array.dtype} of shape {array.shape}", expected=expected)
    if mapping is not None:
        check_mapping(mapping, len(embeddings))
