"""The same content under two names: known by its fingerprint, it lands once unless somebody says otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from granary.load.batch_stage import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from granary.sources.spec import Table
    from granary.sources.units import Unit
    from granary.warehouse.records import Landed


def applies(table: Table) -> bool:
    """Return whether a second copy would double rows: where a key decides, it cannot."""
    keyless = table.disposition == "replace_unit" or (table.disposition == "append" and not table.key)
    return table.copies == "tell" and keyless


def resolve(
    table: Table,
    offered: Sequence[tuple[Unit, bool]],
    ledger: Mapping[str, Landed],
    *,
    keeps: Collection[str],
    accepted: Collection[str],
    anew: bool,
) -> tuple[list[Unit], dict[str, str]]:
    """Tell which units are read, and which of all have the content of another.

    Only files are compared (units whose content was looked at). One that has landed under its own name stays; one that
    was left out before is read as soon as the other one holds something else.

    Args:
        table: the contract.
        offered: units that are new, or were left out before (then True), in their order.
        ledger: what is known of every unit.
        keeps: units whose earlier rows stay, though they are new.
        accepted: units that are loaded whatever else has their content.
        anew: the table is loaded from the beginning, so that what it holds counts for nothing.

    Returns:
        The units to read, and unit -> the other one with its content, which comes before it or has landed.
    """
    new = {unit.name for unit, before in offered if not before} - set(keeps)
    first: dict[str, str] = {}
    if not anew:
        for name, known in ledger.items():
            if name not in new:
                first |= dict.fromkeys(known.holds, name)
    units, copies = [], {}
    for unit, before in offered:
        known = ledger.get(unit.name, UNKNOWN)
        mark = (known.duplicate if before else unit.fingerprint) or ""
        alone = unit.content is None or unit.problem or unit.name in accepted or mark in known.holds
        other = first.setdefault(mark, unit.name) if applies(table) else unit.name
        other = unit.name if alone else other
        if other != unit.name:
            copies[unit.name] = other
        if other == unit.name or not before:
            units.append(replace(unit, fingerprint=mark or None))
    return units, copies
