"""Embedding as a stage of a ``pyspark.ml`` pipeline: `TextEmbedder`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable, DefaultParamsWriter
from pyspark.sql import functions as f
from pyspark.sql.types import StringType
from pyspark.sql.utils import is_remote

from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import InputError, ModelError, SettingsError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import check_dimensions
from lakevec.udfs.column_functions import make_embed_udf

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from lakevec.pipeline.model.table import StaticTable

__all__ = ["TextEmbedder"]


def _check_choice(name: str, choices: tuple[str, ...], value: Any) -> str:
    if value not in choices:
        raise SettingsError(f"{name} of TextEmbedder", got=repr(value), expected=" or ".join(choices))
    return str(value)


def _check_limit(value: Any) -> int:
    limit = TypeConverters.toInt(value)
    EncodeOptions(limit)  # refuses a wrong one now, not in the query
    return limit


def _check_dimensions(value: Any) -> int:
    dimensions = TypeConverters.toInt(value)
    EncodeOptions(dimensions=dimensions)
    return dimensions


def _choice(name: str, choices: tuple[str, ...], doc: str) -> Param[str]:
    return Param(Params._dummy(), name, doc, typeConverter=partial(_check_choice, name, choices))


class _Writer(DefaultParamsWriter):
    """Overwrites on Spark Connect, too, where PySpark's own writer asks for a JVM."""

    def _handleOverwrite(self, path: str) -> None:
        if not is_remote():
            super()._handleOverwrite(path)
            return
        from pyspark.ml.connect.readwrite import RemoteMLWriter

        RemoteMLWriter.handleOverwrite(path, True)


class TextEmbedder(
    Transformer,
    HasInputCol,
    HasOutputCol,
    HasHandleInvalid,
    DefaultParamsReadable["TextEmbedder"],
    DefaultParamsWritable,
):
    """A stage of ``pyspark.ml`` that embeds a string column, on classic sessions and on Spark Connect.

    The vectors have the bits of `lakevec.make_embed_udf`. As vectors of MLlib they are float64, which holds
    every float32 exactly.

    Parameters
    ----------
    inputCol : str
        The text column. Its type is string.
    outputCol : str
        The new column. Default: a name made of the stage's ``uid``.
    model : str
        A path or id that `lakevec.load` accepts. A saved stage keeps it as it is, so give a path that is the
        same where the stage is loaded.
    outputType : {"vector", "array"}, default="vector"
        A vector of MLlib, as other stages expect it, or ``array<float>``.
    maxTokens : int, optional
        Embed only the first `maxTokens` known tokens of a text. Default: all.
    dimensions : int, optional
        Width of the vectors, made of the table's first columns. Default: all columns.
    handleInvalid : {"error", "skip", "keep"}, default="error"
        What to do with a null text. ``error`` fails the query. ``skip`` leaves the row out. ``keep`` gives
        null for arrays, and zeros for vectors, as for an empty text: stages of MLlib refuse null vectors.

    Raises
    ------
    ModelError
        By ``transform`` and ``save``: if the model is missing or damaged, or is another one than at the first
        use.
    InputError
        By ``transform``: if the text column is no string, or the new column exists.
    SettingsError
        If a parameter has another value than the ones above; by ``transform``: if the model's table has
        fewer columns than `dimensions`.

    Notes
    -----
    The parameter ``fingerprint`` identifies the model. The first ``transform`` or ``save`` sets it, and a
    stage refuses every other model from then on, also after it was saved and loaded. To use another model,
    make a new stage and fit the stages behind it again. A grid of a ``CrossValidator`` may vary ``model``.

    If executors don't have lakevec installed, call `lakevec.ship_code` once before the first query.

    Examples
    --------
    >>> from pyspark.ml import Pipeline  # doctest: +SKIP
    >>> from pyspark.ml.clustering import KMeans  # doctest: +SKIP
    >>> embed = TextEmbedder(inputCol="body", outputCol="features", model="models/minilm")  # doctest: +SKIP
    >>> fitted = Pipeline(stages=[embed, KMeans(k=8)]).fit(docs)  # doctest: +SKIP
    >>> fitted.write().overwrite().save("models/clusters")  # doctest: +SKIP
    """

    model: Param[str] = Param(
        Params._dummy(), "model", "a path or id that lakevec.load accepts", TypeConverters.toString
    )
    fingerprint: Param[str] = Param(
        Params._dummy(), "fingerprint", "the only model that the stage accepts", TypeConverters.toString
    )
    outputType: Param[str] = _choice(
        "outputType", ("vector", "array"), "a vector of MLlib, or an array of floats"
    )
    maxTokens: Param[int] = Param(
        Params._dummy(), "maxTokens", "embed only the first known tokens of a text", _check_limit
    )
    dimensions: Param[int] = Param(
        Params._dummy(), "dimensions", "use only the first columns of the table", _check_dimensions
    )
    handleInvalid: Param[str] = _choice(
        "handleInvalid",
        ("error", "skip", "keep"),
        "what to do with null texts: error, skip (leave the row out), or keep (null; zeros for vectors)",
    )

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        model: str | None = None,
        outputType: str = "vector",
        maxTokens: int | None = None,
        dimensions: int | None = None,
        handleInvalid: str = "error",
    ) -> None:
        super().__init__()
        # Copies of the stage share it, so a CrossValidator reads each model once.
        self._tables: dict[str, StaticTable] = {}
        self._setDefault(
            fingerprint=None, outputType="vector", maxTokens=None, dimensions=None, handleInvalid="error"
        )
        self._set(**self._given())

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        model: str | None = None,
        outputType: str = "vector",
        maxTokens: int | None = None,
        dimensions: int | None = None,
        handleInvalid: str = "error",
    ) -> TextEmbedder:
        """Set the given parameters, and leave the others as they are."""
        return self._set(**self._given())

    def _given(self) -> dict[str, Any]:
        """Return the keywords of the call; `keyword_only` keeps them here."""
        given: dict[str, Any] = self._input_kwargs  # type: ignore[attr-defined]
        return {name: value for name, value in given.items() if value is not None}

    def setInputCol(self, value: str) -> TextEmbedder:
        """Set the text column."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> TextEmbedder:
        """Set the name of the new column."""
        return self._set(outputCol=value)

    def setModel(self, value: str) -> TextEmbedder:
        """Set the model's place, such as the one that the same model has now."""
        return self._set(model=value)

    def setOutputType(self, value: str) -> TextEmbedder:
        """Set the type of the new column, "vector" or "array"."""
        return self._set(outputType=value)

    def setMaxTokens(self, value: int) -> TextEmbedder:
        """Set the number of tokens to embed."""
        return self._set(maxTokens=value)

    def setDimensions(self, value: int) -> TextEmbedder:
        """Set the width of the vectors."""
        return self._set(dimensions=value)

    def setHandleInvalid(self, value: str) -> TextEmbedder:
        """Set what to do with null texts: "error", "skip" or "keep"."""
        return self._set(handleInvalid=value)

    def getModel(self) -> str:
        """Return the model's place."""
        return self.getOrDefault(self.model)

    def getFingerprint(self) -> str | None:
        """Return the fingerprint of the model, or None before the first use."""
        return self.getOrDefault(self.fingerprint)

    def getOutputType(self) -> str:
        """Return the type of the new column."""
        return self.getOrDefault(self.outputType)

    def getMaxTokens(self) -> int | None:
        """Return the number of tokens to embed, or None for all."""
        return self.getOrDefault(self.maxTokens)

    def getDimensions(self) -> int | None:
        """Return the width of the vectors, or None for that of the model's table."""
        return self.getOrDefault(self.dimensions)

    def copy(self, extra: dict[Param[Any], Any] | None = None) -> TextEmbedder:
        """Copy the stage with other parameters; with another model, the copy has no fingerprint yet."""
        copied: TextEmbedder = super().copy(extra)
        if extra and self.model in extra and self.fingerprint not in extra:
            copied.clear(copied.fingerprint)
        return copied

    def write(self) -> DefaultParamsWriter:
        """Return a writer for the stage, whose fingerprint is set now."""
        if self.getFingerprint() is None:
            self._open()
        return _Writer(self)

    def _open(self) -> StaticTable:
        """Return the model's table; the first call sets the fingerprint, and later ones compare it."""
        place = str(self._required(self.model))
        if place not in self._tables:
            self._tables[place] = load(place).table
        table, known = self._tables[place], self.getFingerprint()
        if known is None:
            self._set(fingerprint=table.fingerprint)
        elif known != table.fingerprint:
            raise ModelError(
                f"model {place!r} is another one than this TextEmbedder was saved or used with",
                got=table.fingerprint,
                expected=known,
                remedy="call setModel with the place of that model, or make and fit a new pipeline",
            )
        return table

    def _required(self, param: Param[str]) -> str:
        if not self.isDefined(param):
            raise SettingsError(f"TextEmbedder has no {param.name}", remedy=f"give {param.name}=...")
        return self.getOrDefault(param)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        column, added = self._required(self.inputCol), self.getOutputCol()
        kind = dataset.select(column).schema[0].dataType
        if not isinstance(kind, StringType):
            raise InputError(f"text column {column!r}", got=kind.simpleString(), expected="string")
        if added.lower() in map(str.lower, dataset.columns):
            raise InputError(f"column {added!r} is in the data already", remedy="choose another outputCol")
        if self.getHandleInvalid() == "skip":
            dataset = dataset.filter(f.col(column).isNotNull())
        table = self._open()
        dimensions = check_dimensions(self.getDimensions(), table.dimensions)
        embed = make_embed_udf(
            dataset.sparkSession, table, max_tokens=self.getMaxTokens(), dimensions=dimensions
        )
        if self.getOutputType() == "array":
            return dataset.select("*", self._or_error(embed(column)).alias(added))
        text = f.col(column)
        vector = array_to_vector(
            embed(f.coalesce(text, f.lit("")) if self.getHandleInvalid() == "keep" else text)
        )
        # With the size in the metadata, later stages need not read a row to learn it.
        size = {"ml_attr": {"num_attrs": dimensions}}
        return dataset.select("*", self._or_error(vector).alias(added, metadata=size))

    def _or_error(self, vectors: Column) -> Column:
        """Fail at a null text if that is asked for, outside of all that Spark could leave out."""
        if self.getHandleInvalid() != "error":
            return vectors
        column = self.getInputCol()
        error = f.raise_error(
            f"column {column!r} holds a null text; set handleInvalid of TextEmbedder to 'skip' or 'keep'"
        )
        return f.when(f.col(column).isNull(), error).otherwise(vectors)
