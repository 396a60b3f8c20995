"""Changes of Debezium as rows of a change table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from granary.cdc.postgres import pgoutput
from granary.cdc.postgres.changes import trace
from granary.cdc.rows import BYTES, NOT_HERE, Broken, Image, landing, source_names
from granary.sources.units import Rejected, SourceBatch
from granary.streams.debezium.values import MisfitError, is_unavailable, text
from granary.streams.decoding import payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.cdc.rows import Key
    from granary.sources.spec import Table
    from granary.streams.debezium.envelope import Event
    from granary.streams.debezium.fields import Field

Stored = Callable[["Sequence[Key]", "Sequence[str]"], Mapping["Key", "tuple[str | None, ...]"]]
CODES = {"delete": pgoutput.DELETE, "truncate": pgoutput.TRUNCATE}


def key_of(event: Event, table: Table, row: Mapping[str, Any] | None = None) -> Key:
    """Return the key of a change's row as text, in the contract's order; null where it has none."""
    found = event.row if row is None else row
    names = source_names(table)
    by_name = {names[name]: name for name in found if name in names}
    binary = _binary(table)
    return tuple(_key_text(event.fields, found, by_name.get(name), name in binary) for name in table.key)


def _key_text(fields: Mapping[str, Field], row: Mapping[str, Any], name: str | None, binary: bool) -> str | None:
    try:
        return text(fields.get(name), row[name], binary=binary) if name is not None else None
    except MisfitError:  # its row is refused for it
        return None


def source_batch(
    events: Sequence[Event], table: Table, stored: Stored, rejected: Sequence[Rejected] = ()
) -> SourceBatch:
    """Return changes as rows of the change table.

    Args:
        events: changes of one table, in order.
        table: the contract of the table, not that of its change table.
        stored: returns the texts of some columns of the current table by key; asked only where an update leaves a
            large value out that no earlier change of the run has.
        rejected: messages that are no changes; they go with these.
    """
    names, binary = source_names(table), _binary(table)
    fields: dict[str, Field | None] = {}
    for event in events:
        for name in (*event.fields, *event.row):
            fields[name] = event.fields.get(name) or fields.get(name)
    broken: Broken = {}
    texts: dict[str, list[str | None]] = {}
    for name in fields:
        known_as = names.get(name, name)
        texts[name] = [
            None
            if event.op == "truncate" or (event.op == "delete" and known_as not in table.key)
            else _text(row, name, event, known_as in binary, broken)
            for row, event in enumerate(events)
        ]
    before = {row: key for row, event in enumerate(events) if (key := _moved(event, table))}
    _restore(events, table, texts, before, stored, broken)
    described = {
        "cdc_op": pa.array([event.op for event in events], pa.string()),
        "cdc_lsn": pa.array([event.place[0] for event in events], pa.int64()),
        "cdc_seq": pa.array([event.place[1] for event in events], pa.int64()),
        "cdc_xid": pa.array([event.xid for event in events], pa.int64()),
        "cdc_committed_at": pa.array([event.at for event in events], pa.timestamp("us", tz="UTC")),
        "cdc_key_before": pa.array(
            [
                json.dumps(dict(zip(table.key, before[row], strict=True))) if row in before else None
                for row in range(len(events))
            ],
            pa.string(),
        ),
    }
    ops = np.array([event.op for event in events], dtype=object)
    images = []
    for name, field in fields.items():
        kind = BYTES if names.get(name) in binary or (field is not None and field.kind == BYTES) else None
        if kind is None and name not in names and field is not None:
            kind = field.kind
        images.append(Image(name, names.get(name), kind, pa.array(texts[name], pa.string())))
    batch = landing(described, images, table, np.isin(ops, ("insert", "update", "snapshot")), ops != "truncate", broken)
    own = [(row, _own(events[row], one)) for row, one in batch.rejected]
    foreign = [(len(events) + place, one) for place, one in enumerate(rejected)]
    return SourceBatch(batch.batch, (*own, *foreign), text=True)


def deletions(keys: Sequence[Key], table: Table, like: Event) -> SourceBatch:
    """Return deletes of rows by their keys, at the place of another change."""
    count = len(keys)
    described = {
        "cdc_op": pa.array(["delete"] * count, pa.string()),
        "cdc_lsn": pa.array([like.place[0]] * count, pa.int64()),
        "cdc_seq": pa.array([like.place[1]] * count, pa.int64()),
        "cdc_xid": pa.nulls(count, pa.int64()),
        "cdc_committed_at": pa.array([like.at] * count, pa.timestamp("us", tz="UTC")),
        "cdc_key_before": pa.nulls(count, pa.string()),
    }
    binary = _binary(table)
    images = [
        Image(name, name, BYTES if name in binary else None, pa.array(list(values), pa.string()))
        for name, values in zip(table.key, zip(*keys, strict=True), strict=True)
    ]
    return landing(described, images, table, np.zeros(count, bool), np.ones(count, bool), {})


def _binary(table: Table) -> set[str]:
    return {column.name for column in table.columns if pa.types.is_binary(column.type)}


def _text(row: int, name: str, event: Event, binary: bool, broken: Broken) -> str | None:
    """Return a value of a change as text; null where it was left out."""
    value = event.row.get(name)
    if value is None or is_unavailable(value):
        return None
    try:
        return text(event.fields.get(name), value, binary=binary)
    except MisfitError as error:
        broken.setdefault(row, (name, str(error)))
        return None


def _moved(event: Event, table: Table) -> Key | None:
    """Return the key before an update that changed it."""
    if event.op != "update" or event.before is None:
        return None
    was = key_of(event, table, event.before)
    return was if None not in was and was != key_of(event, table) else None


def _restore(
    events: Sequence[Event],
    table: Table,
    texts: dict[str, list[str | None]],
    before: Mapping[int, Key],
    stored: Stored,
    broken: Broken,
) -> None:
    """Put large values back that updates left out because they did not change.

    A value is in the row before the change (replica identity full), else in the latest of the changes before it, else
    in the current table. Where it is nowhere, the change is broken: it is never taken for null.
    """
    names = source_names(table)
    masks: dict[str, Any] = {}
    for name, values in texts.items():
        for row, event in enumerate(events):
            if event.op in ("delete", "truncate") or not is_unavailable(event.row.get(name)):
                continue
            had = (event.before or {}).get(name)
            if had is not None and not is_unavailable(had):
                values[row] = _text_of(event, name, had, names.get(name) in _binary(table))
            else:
                masks.setdefault(name, np.zeros(len(events), bool))[row] = True
    if not masks:
        return
    keys = [key_of(event, table) for event in events]
    ops = np.array([CODES.get(event.op, 0) for event in events])
    for name, mask in masks.items():
        known_as = names.get(name, name)
        trail = trace(ops, keys, before, mask)
        wanted = sorted({one for one in trail if isinstance(one, tuple)} - {()}, key=str)
        there = stored(wanted, [known_as]) if wanted else {}
        for row, found in enumerate(trail):
            if isinstance(found, tuple):
                if found in there:
                    texts[name][row] = there[found][0]
                else:
                    broken.setdefault(row, (known_as, NOT_HERE))
            elif found is not None:
                texts[name][row] = texts[name][found]


def _text_of(event: Event, name: str, value: Any, binary: bool) -> str | None:
    try:
        return text(event.fields.get(name), value, binary=binary)
    except MisfitError:
        return None


def _own(event: Event, refused: Rejected) -> Rejected:
    """Return a refusal with the line of its message."""
    return Rejected(refused.column, refused.reason, refused.payload or payload(event.message.value), event.message.line)
