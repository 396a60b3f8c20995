"""The same content under two names: known by its fingerprint, it lands once unless somebody says otherwise.

A unit that comes packed has two: that of its bytes, which is known before it is read, and that of what was in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from granary.load.batch_stage import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from granary.load.batch_stage import UnitLoad
    from granary.load.failures import Findings
    from granary.sources.spec import Reader, Table
    from granary.sources.units import Unit
    from granary.warehouse.records import Landed


@runtime_checkable
class Unpacking(Protocol):
    """A reader whose units may come packed, so that the same content has different bytes."""

    def unpacked(self, unit: str) -> str | None:
        """Return the fingerprint of what was in a unit that was read to its end, None if it was not packed."""
        ...


def applies(table: Table) -> bool:
    """Return whether a second copy would double rows: where a key decides, it cannot."""
    keyless = table.disposition == "replace_unit" or (table.disposition == "append" and not table.key)
    return table.copies == "report" and keyless


def resolve(
    table: Table,
    offered: Sequence[tuple[Unit, bool]],
    ledger: Mapping[str, Landed],
    findings: Findings,
    *,
    accepted: Collection[str],
    anew: bool,
) -> tuple[list[Unit], dict[str, str], dict[str, str]]:
    """Tell which units are read, and which of all have the content of another.

    Only files are compared (units whose content was looked at). One that has landed under its own name stays; one that
    was left out before is read as soon as the other one holds something else.

    Args:
        table: the contract.
        offered: units that are new, or were left out before (then True), in their order.
        ledger: what is known of every unit.
        findings: what this load has found out: the earlier rows of unreadable units stay, though they are new.
        accepted: units that are loaded whatever else has their content.
        anew: the table is loaded from the beginning, so that what it holds counts for nothing.

    Returns:
        The units to read; unit -> the other one with its content, which comes before it or has landed; and
        fingerprint -> the unit that has this content.
    """
    new = {unit.name for unit, before in offered if not before} - set(findings.unreadable)
    first: dict[str, str] = {}
    if not anew:
        for name, known in ledger.items():
            if name not in new:
                first |= dict.fromkeys(known.holds, name)
    units, copies = [], {}
    for unit, before in offered:
        known = ledger.get(unit.name, UNKNOWN)
        mark, *inside = known.duplicate if before else (unit.fingerprint or "",)
        marks = {mark, *inside, findings.unpacked.get(mark, mark)}
        alone = unit.content is None or unit.problem or unit.name in accepted or not known.holds.isdisjoint(marks)
        others = [] if alone or not applies(table) else [first[each] for each in sorted(marks & first.keys())]
        other = (*others, unit.name)[0]
        first |= dict.fromkeys(marks - first.keys(), other)
        if other != unit.name:
            copies[unit.name] = other
        if other == unit.name or not before:
            units.append(replace(unit, fingerprint=mark or None))
    return units, copies, first


def found(table: Table, reader: Reader, unit_load: UnitLoad, findings: Findings, first: dict[str, str]) -> bool:
    """Note what was in a unit that was read, if it came packed; return whether another unit has that content.

    That is known only now. It is said once of each unit, so that a load which begins again comes to an end.
    """
    inside = reader.unpacked(unit_load.unit.name) if isinstance(reader, Unpacking) else None
    mark = unit_load.unit.fingerprint
    unit_load.unpacked = inside
    if inside is None or mark is None or mark in findings.unpacked:
        return False
    findings.unpacked[mark] = inside
    return applies(table) and first.setdefault(inside, unit_load.unit.name) != unit_load.unit.name
