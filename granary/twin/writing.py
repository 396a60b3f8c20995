"""Write what publishes changed into one copy, a commit for each publish."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.twin import catalog, ledger
from granary.twin.catalog import Label
from granary.twin.copies import Copy
from granary.twin.duck import asked, text
from granary.warehouse.connection import quote_name
from granary.warehouse.faults import fault_point
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.twin.ledger import Ledger, Mark, Mart
    from granary.warehouse.connection import Connection
    from granary.warehouse.published import Event

LAST = "select max(publish_id) from ops.publishes where schema_name = {}"
PUBLISHES = "twin.granary.publishes"
SHARE = 0.5
"""The share of a mart's rows that have to change before all are written."""


class StaleError(Exception):
    """Something was published while the twin was written."""


@dataclass
class Writer:
    """A copy that is written: DuckDB with it attached as `twin` and the warehouse as `warehouse`, and the ledger."""

    engine: Any
    connection: Connection
    copy: Copy
    schema: str
    """Of the catalogue."""

    def follow(self, known: Ledger, events: Sequence[Event], before: Label | None) -> None:
        """Make a snapshot for each of these events of the ledger, in order.

        Args:
            known: the ledger.
            events: what of its line is to be followed.
            before: what the copy holds so far, None for nothing.

        Raises:
            StaleError: something else is shown by now.
        """
        if before is None:
            self.engine.execute("call twin.set_option('parquet_compression', 'zstd')")
            self.engine.execute("create schema if not exists twin.marts")
            self.engine.execute("create schema if not exists twin.granary")
            self.engine.execute(
                f"create table if not exists {PUBLISHES}"
                " (publish_id bigint, shows bigint, mart varchar, row_count bigint, digest varchar)"
            )
        for event in events:
            before = self._step(known, event, before)

    def _step(self, known: Ledger, event: Event, before: Label | None) -> Label:
        had: Mapping[str, Mark] = before.marts if before else {}
        refused: dict[str, str] = {}
        held: dict[str, Mark] = {}
        self.engine.execute("begin")
        try:
            if self._answer(LAST.format(text(ledger.SCHEMA))) != [(known.line[-1].number,)]:
                raise StaleError
            for mart in known.state(event.shows):
                masks = dict(mart.copies()).get(self.copy)
                if masks is None:
                    continue
                if (mark := had.get(mart.name)) != mart.mark:
                    can_follow = before and mark and mark.shape == mart.mark.shape and before.shows in known.kept
                    span = (before.shows, event.shows) if before and can_follow else None
                    source = mart.table
                    if event.shows != known.shown:
                        source = f"({ledger.past(self.connection, mart, event.shows)})"
                    if why := self._write(mart, source, span, masks=masks):
                        refused[mart.name] = why
                        self.engine.execute(f"drop table if exists {_table(mart.name)}")
                        continue
                held[mart.name] = mart.mark
            for name in had.keys() - held.keys() - refused.keys():
                self.engine.execute(f"drop table if exists {_table(name)}")
            self._commit(Label(0, event.number, event.shows, known.erasures, held, refused))
        except BaseException:
            with suppress(Exception):
                self.engine.execute("rollback")
            raise
        finally:
            self.connection.rollback()
        fault_point("twin-after-commit")
        made = catalog.labels(self.connection, self.schema)[-1]
        self.connection.commit()
        return made

    def _commit(self, label: Label) -> None:
        self.engine.execute(f"delete from {PUBLISHES}")
        rows = [(label.event, label.shows, name, mark.rows, mark.digest) for name, mark in label.marts.items()]
        rows = rows or [(label.event, label.shows, None, None, None)]  # type: ignore[list-item]
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(rows))
        self.engine.execute(f"insert into {PUBLISHES} values {places}", [value for row in rows for value in row])
        self.engine.execute(
            f"call twin.set_commit_message({text(catalog.AUTHOR)}, {text(f'publish {label.event}')},"
            f" extra_info => {text(label.said)})"
        )
        fault_point("twin-before-commit")
        self.engine.execute("commit")

    def _answer(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.engine.execute(f"select * from {asked('warehouse', sql)}").fetchall())

    def _write(self, mart: Mart, source: str, span: tuple[int, int] | None, *, masks: bool) -> str:
        """Make a mart of the copy what it was after a publish; return why that cannot be, empty if it is.

        Args:
            mart: what it is to be.
            source: where its rows are, as SQL of Postgres.
            span: the publishes before and after, if what changed between them is known.
            masks: whether masked columns have their masks in this copy.
        """
        if len({one.name.lower() for one in mart.columns}) < len(mart.columns):
            return "names of its columns differ in nothing but capitals"
        units = self._units(mart, source, span, masks=masks)
        condition = "true" if units is None else _in_units(mart, units)
        if why := self._problem(mart, source, condition):
            return why
        if units is None:
            self.engine.execute(f"drop table if exists {_table(mart.name)}")
            columns = ", ".join(f"{one.sql} {one.carrier}" for one in mart.columns)
            self.engine.execute(f"create table {_table(mart.name)} ({columns})")
        else:
            names = ", ".join(map(quote_name, mart.unit))
            changed = f"select ({names}) from {asked('warehouse', units)}"
            self.engine.execute(f"delete from {_table(mart.name)} where ({names}) in ({changed})")
        rows = f"select {mart.selected(masks=masks)} from {source} as source where {condition}"
        order = f" order by {', '.join(map(quote_name, mart.unit))}" if mart.unit else ""
        self.engine.execute(f"insert into {_table(mart.name)} select * from {asked('warehouse', rows)}{order}")
        ((found,),) = self.engine.execute(f"select count(*) from {_table(mart.name)}").fetchall()
        if found == mart.mark.rows:
            return ""
        if units is not None:
            return self._write(mart, source, None, masks=masks)
        return f"it has {plural(found, 'row')}, and {mart.mark.rows:,} by its publish: somebody wrote to it"

    def _units(self, mart: Mart, source: str, span: tuple[int, int] | None, *, masks: bool) -> str | None:
        """Return a query for the units in which a mart is to be rewritten, None for all of it."""
        if span is None or not mart.unit or not mart.history or (masks and mart.masked.intersection(mart.unit)):
            return None
        units = ledger.changed(mart, *span)
        null = " or ".join(f"{quote_name(one)} is null" for one in mart.unit)
        ((rows, has_null),) = self._answer(
            f"select (select count(*) from {source} as source where {_in_units(mart, units)}),"
            f" exists (select from ({units}) as units where {null})"
        )
        return None if has_null or rows > SHARE * mart.mark.rows else units

    def _problem(self, mart: Mart, source: str, condition: str) -> str:
        """Return which columns of a mart have values that cannot be carried, empty if none."""
        asks = [(one, one.problem) for one in mart.columns if one.problem]
        if not asks:
            return ""
        wanted = ", ".join(f"coalesce(bool_or({problem}), false) as p{n}" for n, (_, problem) in enumerate(asks))
        (answer,) = self._answer(f"select {wanted} from {source} as source where {condition}")
        bad = [one.name for (one, _), is_bad in zip(asks, answer, strict=True) if is_bad]
        return f"{', '.join(bad)} has values that Parquet cannot hold, such as NaN in a number" if bad else ""

    def give_up(self, gone: Sequence[int], *, is_crowded: bool) -> None:
        """Let go of snapshots, and of the files that only they had; put small files together."""
        if gone:
            self.engine.execute(f"call ducklake_expire_snapshots('twin', versions => {list(gone)})")
        if is_crowded:
            self.engine.execute("call ducklake_rewrite_data_files('twin', delete_threshold => 0.3)")
            self.engine.execute("call ducklake_merge_adjacent_files('twin')")
        self.engine.execute("call ducklake_cleanup_old_files('twin', cleanup_all => true)")


def _table(mart: str) -> str:
    return f"twin.marts.{quote_name(mart)}"


def _in_units(mart: Mart, units: str) -> str:
    """Return a condition of Postgres for the rows of these units."""
    if len(mart.unit) == 1:
        return f"source.{quote_name(mart.unit[0])} = any(array({units}))"
    return f"({', '.join(f'source.{quote_name(one)}' for one in mart.unit)}) in ({units})"
