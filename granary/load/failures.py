"""What a load learns on its way: units that cannot be read, that wait, or that failed while the others land."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from granary.load.contract import ContractBrokenError
from granary.sources.units import NotLoaded
from granary.warehouse import quarantine
from granary.warehouse.connection import query
from granary.warehouse.errors import GranaryError
from granary.warehouse.ledger import record, record_changes
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from granary.load.batch_stage import UnitLoad
    from granary.sources.spec import Source, Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.raw_tables import Lost


class RestartLoadError(Exception):
    """The load has learnt something that it should have known when it opened its COPY."""


@dataclass
class Findings:
    """What a load finds out on its way and needs to know from the start: it outlives a new beginning.

    `unreadable` and `unfinished` are units with the reason, `failed` what became of a unit and its error, `single`
    units that are loaded whatever else has their content, `unpacked` what was in packed units, both as fingerprints.
    """

    evolved: dict[str, pa.DataType] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    failed: dict[str, tuple[UnitLoad, GranaryError]] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)
    unpacked: dict[str, str] = field(default_factory=dict)

    def not_loaded(self) -> list[NotLoaded]:
        """Return the units that failed, and those that wait."""
        failed = [NotLoaded(unit, "failed", str(error)) for unit, (_, error) in self.failed.items()]
        return failed + [NotLoaded(unit, "waiting", reason) for unit, reason in self.unfinished.items()]


class NothingLandedError(GranaryError):
    """All that is new of a table failed: the error of the first unit, and how many more there are."""

    def __init__(self, errors: list[GranaryError]) -> None:
        """Keep the first error's parts."""
        first, more = errors[0], len(errors) - 1
        super().__init__(f"{first.what}; {more:,} more of its units failed too", first.where, first.todo)


def nothing_landed(findings: Findings) -> GranaryError:
    """Return the error of a load all of whose units failed."""
    errors = [error for _, error in findings.failed.values()]
    return errors[0] if len(errors) == 1 else NothingLandedError(errors)


def too_few(table: Table, where: str, left: int, held: int, lost: Lost | None) -> GranaryError:
    """Return the error of a load that would leave so few of the rows that the table has, or had before it lost some."""
    if lost:
        return GranaryError(
            f"{lost}; the source offers what makes {left:,}, below the floor of {table.floor:.0%}",
            where,
            f"put the rows back from a backup, or take what the source has: `granary load {where} --rebuild`",
        )
    return GranaryError(
        f"the source offers {plural(left, 'row')}, the table has {held:,}: below its floor of {table.floor:.0%}",
        where,
        "check the source; if it is right, lower the floor in the table's contract",
    )


def record_failed(
    connection: Connection, source: Source, table: Table, run_id: str, failed: Iterable[tuple[UnitLoad, BaseException]]
) -> None:
    """Keep units for which a load failed: a row in the ledger, the refused rows, how the contract was broken."""
    names = source.name, table.name
    for unit_load, error in failed:
        load_id = int(str(query(connection, "select nextval('ops.load_id')")[0][0]))
        words = str(error) or type(error).__name__
        gone = replace(
            unit_load, load_id=load_id, loaded=0, forgotten=0, bytes=0, deleted=0, unreadable=None, copy_of=""
        )
        record(connection, [gone.audit(*names, "failed", run_id=run_id, error=words)])
        quarantine.forget_failed(connection, *names, unit_load.unit.name)
        refused = ((unit_load.unit.name, True, load_id, refusal) for refusal in unit_load.refusals if refusal.row)
        quarantine.keep(connection, *names, table.contract, refused, "failed")
        if isinstance(error, ContractBrokenError):
            record_changes(connection, *names, load_id, [error.change])
