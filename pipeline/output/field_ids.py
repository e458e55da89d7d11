"""Field ids of Parquet columns, by which Iceberg's readers find them."""

from __future__ import annotations

import pyarrow as pa

# The id of each column and of each part of a nested one, by path. The parts of a list and a map have the
# names that Iceberg gives them: element, key and value.
FieldIds = dict[tuple[str, ...], int]

_KEY = b"PARQUET:field_id"


def with_field_ids(schema: pa.Schema, ids: FieldIds) -> pa.Schema:
    """Return a schema whose fields carry ids; fields without a known path carry none.

    Examples
    --------
    >>> schema = pa.schema([("v", pa.list_(pa.float32()))])
    >>> field = with_field_ids(schema, {("v",): 1, ("v", "element"): 2}).field("v")
    >>> field.metadata, field.type.value_field.metadata
    ({b'PARQUET:field_id': b'1'}, {b'PARQUET:field_id': b'2'})
    """
    fields = [_with_id(field, (field.name,), ids) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _with_id(field: pa.Field, path: tuple[str, ...], ids: FieldIds) -> pa.Field:
    kind = field.type
    if pa.types.is_list(kind):
        kind = pa.list_(_with_id(kind.value_field, (*path, "element"), ids))
    elif pa.types.is_map(kind):
        key, item = kind.key_field, kind.item_field
        kind = pa.map_(_with_id(key, (*path, "key"), ids), _with_id(item, (*path, "value"), ids))
    elif pa.types.is_struct(kind):
        kind = pa.struct([_with_id(part, (*path, part.name), ids) for part in kind])
    field = field.with_type(kind)
    return field.with_metadata({_KEY: str(ids[path])}) if path in ids else field
