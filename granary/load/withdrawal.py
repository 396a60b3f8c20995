"""Units that are gone from their place, taken out of the warehouse: the opposite of a load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.load.api import find
from granary.load.batch_stage import BatchStage, UnitLoad
from granary.sources.units import Unit
from granary.warehouse import quarantine
from granary.warehouse.errors import GranaryError
from granary.warehouse.ledger import landed, record
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.warehouse.settings import Settings

RUN = "withdraw"
"""What the ledger has as the run of a withdrawal."""


@dataclass(frozen=True)
class Withdrawn:
    """What a withdrawal did to one unit."""

    source: str
    table: str
    unit: str
    rows_deleted: int
    load_id: int


def withdraw(settings: Settings, source: str, table: str, units: Sequence[str]) -> list[Withdrawn]:
    """Delete the rows of units that their source no longer has, in one transaction with the ledger.

    For the models it is what a correction is that leaves nothing: the withdrawal takes the place of the unit's loads.
    Its open entries in the quarantine are closed. Delivered again, the unit lands again.

    Raises:
        GranaryError: the ledger does not know a unit, its source still has it, or rows of the table belong to no unit
            alone, being merged by key.
    """
    spec, contract = find(source, table)
    place = f"{source}.{table}"
    if contract.disposition in ("merge", "replace"):
        todo = f"`granary load {place} --full-refresh` reads what its source has now"
        raise GranaryError("rows are taken by their key, so none is of one unit alone", place, todo)
    reader = spec.reader(settings)
    done = []
    with LoadTransaction(settings, source) as tx:
        there = {unit.name for unit in reader.units(contract, tx.watermark(table))}
        known = landed(tx.connection, source, table)
        stage = BatchStage(spec, contract, {}, None)
        stage.know_raw(tx)
        for name in dict.fromkeys(units):
            if name not in known:
                todo = "`select unit from ops.load_audit` has the names"
                raise GranaryError(f"no load of a unit {name!r} could be withdrawn", place, todo)
            if name in there:
                words = f"the source still has {name}, so the next load would bring it back"
                raise GranaryError(words, place, "remove it there first")
            began = time.perf_counter()
            deleted = 0 if stage.fresh else tx.delete_loads(stage.target, known[name].load_ids)
            [load_id] = tx.next_load_ids(1)
            tx.supersede(dict.fromkeys(known[name].load_ids, load_id))
            unit_load = UnitLoad(Unit(name), load_id, began=began, deleted=deleted)
            record(tx.connection, [unit_load.audit(source, table, "withdrawn", run_id=RUN)])
            quarantine.close_unit(tx.connection, source, table, name, rows=True)
            quarantine.forget_failed(tx.connection, source, table, name)
            done.append(Withdrawn(source, table, name, deleted, load_id))
    return done
