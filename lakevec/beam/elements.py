"""Elements that hold a text: strings, dicts and Beam rows; and the types of their results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import named_fields_from_element_type

from lakevec.pipeline.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Fields:
    """Where an element's text is, and what its results have besides.

    Parameters
    ----------
    text : str or None
        Field of the text; None if elements are texts.
    added : tuple of str
        New fields, such as that of the vector.
    """

    text: str | None
    added: tuple[str, ...]

    def read(self, element: Any) -> Any:
        """Return an element's text; a value that is no text if the field is missing."""
        if self.text is None:
            return element
        if isinstance(element, Mapping):
            return element.get(self.text, _MISSING)
        return getattr(element, self.text, _MISSING)

    def write(self, element: Any, *values: Any) -> Any:
        """Return a new element with the values of the new fields."""
        fields = _fields_of(element)
        self._refuse_taken(fields)
        return _make(element, {**fields, **dict(zip(self.added, values, strict=True))})

    def with_text(self, element: Any, text: str | bytes | None) -> Any:
        """Return a new element with another text."""
        return text if self.text is None else _make(element, {**_fields_of(element), self.text: text})

    def result_type(
        self, element_type: Any, added: Sequence[tuple[str, Any]], alone: Any, *, may_lose_text: bool = False
    ) -> Any:
        """Return the type of results, given the type of elements.

        Parameters
        ----------
        element_type : type
        added : sequence of (name, type)
            Fields that results have besides those of the elements.
        alone : type
            Type of a result if elements are texts.
        may_lose_text : bool, default=False
            Whether a text may become None.

        Raises
        ------
        InputError
            If the elements can't have these fields.
        """
        fields = _schema_of(element_type)
        if fields:
            types = dict(fields)
            self.check(types)
            if may_lose_text and self.text is not None:
                types[self.text] = types[self.text] | None
            return RowTypeConstraint.from_fields([*types.items(), *added])
        is_text = element_type in (str, bytes)
        if is_text and self.text is not None:
            raise InputError("elements are texts", got=f"the field {self.text!r}", expected="no field")
        return alone if self.text is None else Any

    def check(self, fields: Mapping[str, Any]) -> None:
        """Refuse fields without the text, or with one of the new names."""
        if self.text not in fields:
            raise InputError(
                "elements lack the field of the text",
                got=repr(self.text),
                expected=f"one of {', '.join(fields)}",
                remedy=did_you_mean(self.text or "", fields, "name it: text=..."),
            )
        self._refuse_taken(fields)

    def _refuse_taken(self, fields: Mapping[str, Any]) -> None:
        if taken := [name for name in self.added if name in fields]:
            raise InputError(f"elements already have a field {taken[0]!r}", expected="another name")


def _schema_of(element_type: Any) -> list[tuple[str, Any]]:
    """Return names and types of a row's fields; none if elements have no schema."""
    try:
        return list(named_fields_from_element_type(element_type))
    except TypeError:
        return []


class _Missing:
    """No text."""


_MISSING = _Missing()


def _fields_of(element: Any) -> Mapping[str, Any]:
    if isinstance(element, Mapping):
        return element
    fields: Mapping[str, Any] = element._asdict() if hasattr(element, "_asdict") else vars(element)
    return fields


def _make(element: Any, fields: dict[str, Any]) -> Any:
    return fields if isinstance(element, Mapping) else beam.Row(**fields)
