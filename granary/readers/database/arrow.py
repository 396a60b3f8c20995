"""Columns as Postgres' driver delivers them, made into what a contract can hold; all of it vectorised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.types import cast
from granary.load.values import beyond, readable
from granary.readers.database.types import UNBOUNDED
from granary.readers.database.values import settled
from granary.sources.units import Rejected, SourceBatch

if TYPE_CHECKING:
    from granary.readers.database.values import Field


def source_batch_of(fields: list[Field], batch: pa.RecordBatch) -> SourceBatch:
    """Turn text into decimals, local times into instants, and reject what no contract can hold."""
    arrays: list[pa.Array] = []
    rejected: dict[int, Rejected] = {}
    for field, received in zip(fields, batch.columns, strict=True):
        array, misfits, problem = _settle(field, received)
        arrays.append(array)
        for index in pc.indices_nonzero(misfits).to_pylist() if misfits is not None else ():
            payload = {name: readable(batch.column(place), index) for place, name in enumerate(batch.schema.names)}
            rejected.setdefault(index, Rejected(field.name, problem, payload))
    return settled(batch.schema.names, arrays, rejected)


def _settle(field: Field, values: pa.Array) -> tuple[pa.Array, pa.Array | None, str]:
    """Return a column as it is handed over, the mask of the values that do not fit, and why not."""
    t = pa.types
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if t.is_string(values.type) and field.type != values.type:
        # A whole number with decimals (1.00) is one only by way of a decimal; the load seam does that step.
        wanted = UNBOUNDED if t.is_integer(field.type) else field.type
        return *cast(values, wanted, text=True), f"is not a valid {wanted}"
    if not (t.is_timestamp(values.type) or t.is_date(values.type)) or not len(values):
        return values, None, ""
    outside = beyond(values)
    if outside is not None:
        values = pc.if_else(outside, pa.scalar(None, values.type), values)
    if field.zone and t.is_timestamp(values.type):
        values, unclear = _localised(values, field.zone)
        if unclear is not None and outside is None:
            return values, unclear, f"is a local time that came twice or never in {field.zone}"
        if unclear is not None:
            outside = pc.or_(outside, unclear)
    return values, outside, "is outside of the years 1 to 9999"


def _localised(values: pa.Array, zone: str) -> tuple[pa.Array, pa.Array | None]:
    """Return local times as instants, and the mask of those that the clocks showed twice or never."""
    utc = pa.timestamp("us", tz="UTC")
    early = pc.assume_timezone(values, zone, ambiguous="earliest", nonexistent="earliest").cast(utc)
    late = pc.assume_timezone(values, zone, ambiguous="latest", nonexistent="latest").cast(utc)
    unclear = pc.fill_null(pc.not_equal(early, late), False)
    return early, unclear if pc.any(unclear).as_py() else None
