"""Faults in what systems deliver: each comes with one more day, which is loaded and built, and the tests are asked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Error

from demo import crm, retailer
from granary.load.api import find
from granary.monitoring.anomalies.look import look
from granary.sources.select import select
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.project.histories.proof import digests
from tests.python.project.histories.recorded import AuditError
from tests.python.project.mutants.checks import data_tests, failing
from tests.python.project.mutants.models import SAME, SURVIVED, VARIANT, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.project.histories.proof import Digest, Proof
    from tests.python.project.pipeline.conftest import Pipeline

Row = dict[str, Any]
Rows = list[Row]
Plant = Callable[["Pipeline"], None]
"""Puts a fault into what is delivered for the newest day."""
UNUSUAL = "nothing_unusual_came"
STRANGE = 987_654_321
"""What makes of an id one that no system knows."""
KEYS = ("product_id", "store_id", "household_id")
SALES, PROMOTIONS, REDEMPTIONS = "pos/transactions", "pos/promotions", "events/coupon_redemptions"
NOTICED = (
    ("quarantine", "select source || '.' || table_name || ': ' || reason from ops.quarantine where load_id > {seen}"),
    (
        "ledger",
        "select source || '.' || table_name || ': ' || status from ops.load_audit"
        " where load_id > {seen} and status in ('failed', 'unreadable', 'duplicate', 'withdrawn')",
    ),
    (
        "files not loaded",
        "select unit || ': ' || reason from ops.files_not_loaded where load_id > {seen} and outcome <> 'waits'",
    ),
    (
        "schema change",
        "select source || '.' || table_name || '.' || column_name || ': ' || change from ops.schema_changes"
        " where load_id > {seen}",
    ),
)
"""What a load says by itself, by where it says it."""


@dataclass(frozen=True)
class Fault:
    """A fault: of which kind, in what."""

    kind: str
    where: str
    plant: Plant

    def __str__(self) -> str:
        """Return the fault on one line."""
        return f"{self.where}: {self.kind}"


def faults() -> list[Fault]:
    """Return every fault."""
    found = [Fault(kind, where, _in_rows(where, change)) for where, kind, change in ROWS]
    found += [Fault(kind, where, _in_file(where, change)) for where, kind, change in FILES]
    found += [Fault(kind, f"crm.{table}", _in_crm(sql)) for table, kind, sql in CRM]
    return found + [Fault(kind, "raw", _in_raw(sql)) for kind, sql in RAW]


@dataclass
class Deliveries:
    """A warehouse in which a day with a fault is loaded and built, again and again from the same beginning."""

    proof: Proof
    columns: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the tests; those that fail without a fault say nothing."""
        # What is unusual is asked for beside what is so without a fault, of which so few rows have something.
        self.tests = [test for test in data_tests(self.proof.builds) if test.name != UNUSUAL]
        # What a delivery brought, not by which load: a load's number and time are another one each time.
        names = self.proof.columns.items()
        self.columns = {name: re.sub(r"(, )?\b_?load_id\b", "", columns) for name, columns in names}
        self.clean: dict[str, Digest] = {}
        self.usual: set[str] = set()
        clean = self.verdict(Fault("none", "nowhere", lambda _: None))
        if clean.is_caught:
            raise AssertionError(f"without a fault, {clean.by} {clean.name} catches one")
        self.clean = self._marts()

    def verdict(self, fault: Fault) -> Verdict:
        """Return what catches a fault first: the load, the audits of a build, publishing, or a test."""
        pipeline = self.proof.pipeline
        self.proof.begin()
        [(seen,)] = pipeline.query("select max(load_id) from ops.load_audit")
        retailer.advance(pipeline.settings, retailer.clock(pipeline.settings) + timedelta(days=1))
        fault.plant(pipeline)
        found = self._of_load(seen) or self._of_build() or self._of_tests()
        return found or Verdict(SAME if self._marts() == self.clean else SURVIVED)

    def _of_load(self, seen: int) -> Verdict | None:
        """Load what is delivered; return what says that something is wrong with it, of loads after that one."""
        pipeline = self.proof.pipeline
        try:
            pipeline.load()
        except GranaryError as error:
            return Verdict("load", error.what)
        for by, sql in NOTICED:
            if found := pipeline.query(sql.format(seen=seen)):
                return Verdict(by, str(found[0][0]))
        return self._unusual()

    def _unusual(self) -> Verdict | None:
        """Look at what came, as a run does after each load; return what is not as usual beside what was so before."""
        looks = [look(self.proof.pipeline.settings, source, find(source, table)[1]) for source, table in select(())]
        if problems := [one.problem for one in looks if one.problem]:
            raise AssertionError(problems[0])
        new = [one for found in looks for one in found.new if one.message not in self.usual]
        if not self.clean:
            self.usual.update(one.message for one in new)
            return None
        return Verdict("anomaly", new[0].message) if new else None

    def _of_build(self) -> Verdict | None:
        try:
            self.proof.builds.build(VARIANT)
        except AuditError as error:
            return Verdict("audit", str(error).partition(": ")[2])
        except Error as error:
            return Verdict("build", type(error).__name__)
        except AssertionError as error:
            return Verdict("publish", str(error))
        return None

    def _of_tests(self) -> Verdict | None:
        with connect(self.proof.pipeline.settings, role="transformer") as connection:
            names = failing(self.tests, connection)
            connection.rollback()
        return Verdict("data test", names[0], names[1:]) if names else None

    def _marts(self) -> dict[str, Digest]:
        names = [name for name in self.proof.columns if name.startswith("build.") and not name.endswith("__delta")]
        with connect(self.proof.pipeline.settings) as connection:
            return digests(connection, self.columns, names)


# -- rows of a file ------------------------------------------------------------------------------------------


def _in_rows(folder: str, change: Callable[[Rows], Rows]) -> Plant:
    def plant(pipeline: Pipeline) -> None:
        path = _newest(pipeline, folder)
        if path.suffix == ".jsonl":
            events = [json.loads(line) for line in path.read_text().splitlines()]
            path = path.with_name(f"{retailer.clock(pipeline.settings)}.jsonl")  # an event that is known stays as it is
            new = [one | {"event_id": str(uuid4())} for one in events]
            path.write_text("".join(json.dumps(row) + "\n" for row in change(new)))
            return
        table = pq.read_table(path)
        changed = change(table.to_pylist())
        pq.write_table(pa.Table.from_pylist(changed, _schema(table.schema, changed)), path)

    return plant


def _schema(schema: pa.Schema, rows: Rows) -> pa.Schema:
    """Return the schema that holds changed rows: columns that are texts now, renamed, added or left out."""
    for n, name in enumerate(schema.names):
        if any(isinstance(row.get(name), str) for row in rows) and not pa.types.is_string(schema.field(name).type):
            schema = schema.set(n, pa.field(name, pa.string()))
    kept = [field for field in schema if field.name in rows[0]]
    new = [pa.field(name, pa.array([rows[0][name]]).type) for name in rows[0] if name not in schema.names]
    return pa.schema([*kept, *new])


def _set(all_rows: bool = False, **values: object) -> Callable[[Rows], Rows]:
    """Return the change that gives the first row, or all, these values; of a function, what it makes of the old one."""

    def change(rows: Rows) -> Rows:
        for row in rows if all_rows else rows[:1]:
            row.update({name: to(row[name]) if callable(to) else to for name, to in values.items()})
        return rows

    return change


def _twice(rows: Rows) -> Rows:
    return [*rows, dict(rows[0])]


def _all_twice(rows: Rows) -> Rows:
    return rows + [dict(row) for row in rows]


def _half(rows: Rows) -> Rows:
    return rows[: len(rows) // 2]


def _swapped(one: str, other: str) -> Callable[[Rows], Rows]:
    return lambda rows: [row | {one: row[other], other: row[one]} for row in rows]


def _left_out(name: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{key: value for key, value in row.items() if key != name} for row in rows]


def _renamed(name: str, to: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{to if key == name else key: value for key, value in row.items()} for row in rows]


def _two_households(rows: Rows) -> Rows:
    receipts = Counter(row["basket_id"] for row in rows)
    row = next(row for row in rows if receipts[row["basket_id"]] > 1)
    row["household_id"] += STRANGE
    return rows


def _one_store(rows: Rows) -> Rows:
    return [row for row in rows if row["store_id"] != rows[0]["store_id"]]


ROWS: tuple[tuple[str, str, Callable[[Rows], Rows]], ...] = (
    (SALES, "a line twice", _twice),
    (SALES, "every line twice", _all_twice),
    (SALES, "half of the lines", _half),
    (SALES, "a store left out", _one_store),
    *((SALES, f"no {name}", _set(**{name: None})) for name in ("household_id", "basket_id", "sales_value", "quantity")),
    (SALES, "no discount in any line", _set(all_rows=True, retail_disc=None)),
    (SALES, "discounts all zero", _set(all_rows=True, retail_disc=0.0)),
    (SALES, "negative value", _set(sales_value=-1.0)),
    (SALES, "negative quantity", _set(quantity=-1)),
    (SALES, "value beyond all", _set(sales_value=1e7)),
    (SALES, "value is not a number", _set(sales_value=float("nan"))),
    (SALES, "prices in cents", _set(all_rows=True, sales_value=lambda value: value * 100)),
    (SALES, "parts of cents", _set(sales_value=lambda value: value + 0.005)),
    (SALES, "values as text", _set(all_rows=True, sales_value=str)),
    (SALES, "values with a decimal comma", _set(all_rows=True, sales_value=lambda value: str(value).replace(".", ","))),
    (SALES, "columns swapped", _swapped("sales_value", "retail_disc")),
    (SALES, "keys swapped", _swapped("product_id", "basket_id")),
    (SALES, "column left out", _left_out("coupon_disc")),
    (SALES, "column renamed", _renamed("coupon_disc", "coupon_discount")),
    (SALES, "column added", _set(all_rows=True, cashier="A")),
    (SALES, "times in local time", _set(all_rows=True, transaction_timestamp=lambda at: at - timedelta(hours=4))),
    (SALES, "times a day late", _set(all_rows=True, transaction_timestamp=lambda at: at + timedelta(days=1))),
    (SALES, "time of another year", _set(transaction_timestamp=lambda at: at + timedelta(days=3650))),
    (SALES, "another week", _set(all_rows=True, week=lambda week: week + 1)),
    (SALES, "week out of range", _set(week=54)),
    (SALES, "two households of a receipt", _two_households),
    *(
        (SALES, f"unknown {name} in all lines", _set(all_rows=True, **{name: lambda key: key + STRANGE}))
        for name in KEYS
    ),
    (PROMOTIONS, "a placement twice", _twice),
    (PROMOTIONS, "unknown code", _set(display_location="Z")),
    (PROMOTIONS, "no product", _set(product_id=None)),
    (PROMOTIONS, "another week", _set(all_rows=True, week=lambda week: week + 1)),
    (PROMOTIONS, "columns swapped", _swapped("product_id", "store_id")),
    (REDEMPTIONS, "no household", _set(household_id=None)),
    (REDEMPTIONS, "another type", _set(type="coupon_printed")),
    (REDEMPTIONS, "unknown coupon", _set(coupon_upc=STRANGE)),
    (REDEMPTIONS, "unknown campaign", _set(campaign_id=STRANGE)),
    (REDEMPTIONS, "field renamed", _renamed("occurred_at", "at")),
    (REDEMPTIONS, "time without zone", _set(occurred_at=lambda at: str(at)[:19])),
)


# -- files ---------------------------------------------------------------------------------------------------


def _in_file(folder: str, change: Callable[[Path], object]) -> Plant:
    return lambda pipeline: change(_newest(pipeline, folder))


def _again(path: Path) -> None:
    path.with_name("again-" + path.name).write_bytes(path.read_bytes())


def _under_the_next_day(path: Path) -> None:
    path.with_name("2017-12-31" + path.suffix).write_bytes(path.read_bytes())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(0, 0), path)


FILES: tuple[tuple[str, str, Callable[[Path], object]], ...] = (
    (SALES, "file late", lambda path: path.unlink()),
    (SALES, "file without rows", _without_rows),
    (SALES, "file of no bytes", lambda path: path.write_bytes(b"")),
    (SALES, "file cut off", _cut),
    (SALES, "file under a second name", _again),
    (SALES, "file as that of a later day, too", _under_the_next_day),
    (REDEMPTIONS, "file cut off", _cut),
    (REDEMPTIONS, "file of another format", lambda path: path.write_text("event_id;type\n1;coupon_redeemed\n")),
)


def _newest(pipeline: Pipeline, folder: str) -> Path:
    """Return the newest file of a folder that has rows."""
    paths = sorted((pipeline.settings.home / "demo" / "landing" / folder).iterdir())
    return next(path for path in reversed(paths) if path.suffix == ".jsonl" or pq.read_metadata(path).num_rows)


# -- databases -----------------------------------------------------------------------------------------------


def _in_crm(sql: str) -> Plant:
    def plant(pipeline: Pipeline) -> None:
        with connect(pipeline.settings, crm.database(pipeline.settings)) as connection:
            execute(connection, sql)
            connection.commit()

    return plant


def _in_raw(sql: str) -> Plant:
    return lambda pipeline: pipeline.execute(sql)


CRM = (
    ("products", "column dropped", "alter table products drop column brand"),
    ("products", "column retyped", "alter table products alter column manufacturer_id type text"),
    ("products", "most rows gone", "delete from products where product_id % 10 <> 0"),
    ("products", "all rows gone", "truncate products"),
    ("products", "table gone", "drop table products"),
    ("products", "new value of a list", "update products set brand = 'Own', updated_at = now()"),
    ("products", "changed before it was known", "update products set updated_at = timestamptz '1970-01-01'"),
    ("households", "most rows gone", "delete from households where household_id % 10 <> 0"),
    ("households", "changed in the future", "update households set updated_at = timestamptz '2199-01-01'"),
    ("stores", "most rows gone", "delete from stores where store_id % 10 <> 0"),
)
RAW = (
    ("a row deleted", "delete from raw_pos.transactions where ctid = (select max(ctid) from raw_pos.transactions)"),
    (
        "a row inserted",
        "insert into raw_pos.transactions select * from raw_pos.transactions order by ctid desc limit 1",
    ),
    ("a table emptied", "truncate raw_pos.promotions"),
    (
        "a value changed",
        "update raw_pos.transactions set quantity = -1 where _load_id ="
        " (select min(_load_id) from raw_pos.transactions)",
    ),
)
"""What somebody does in the raw tables themselves, past the loaders."""
