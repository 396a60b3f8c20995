"""What is planted in the year that is played: 60 faults, each with the cause that its one incident has to name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from bench import alerts_plants as plant
from bench import alerts_slots as slots
from bench.alerts_plants import HOUR, MINUTE, PROMOTIONS, REDEMPTIONS, SALES

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.alerts_plants import Plant
    from bench.alerts_replay import Replay


@dataclass(frozen=True)
class Fault:
    """What is planted: its kind, where, and the cause that is to be named.

    `known` is how long after the loads of the day somebody can know, and `days` how long it stays. `on` are the days on
    which it can be planted: those with a delivery of the kind.
    """

    kind: str
    cause: str
    plant: Plant
    known: timedelta = timedelta(0)
    days: int = 1
    on: Callable[[Replay], bool] = lambda replay: plant.newest(replay, SALES).exists()


FAULTS: tuple[Fault, ...] = (
    Fault("half a file", SALES, plant.delivered("every other row")),
    Fault(
        "poison events",
        REDEMPTIONS,
        plant.file(REDEMPTIONS, plant.poison(occurred_at="yesterday")),
        on=plant.has_events,
    ),
    Fault("expired key", "marketing", plant.variable("GRANARY_MARKETING_KEY", "expired")),
    Fault("prices in cents", SALES, plant.delivered("prices in cents")),
    Fault("dead slot", "office", slots.captured("select pg_drop_replication_slot('granary_office')")),
    Fault("late file", SALES, plant.absent(SALES), known=12 * HOUR),
    Fault("failing test", "daily_sales_counts_sound", plant.dbt(daily_sales_counts_sound="fail")),
    Fault("new category", PROMOTIONS, plant.delivered("an eighth of a new category", PROMOTIONS), on=plant.new_week),
    Fault(
        "dropped column",
        "crm.households",
        plant.database(
            "alter table households rename column household_id to customer",
            "alter table households rename column customer to household_id",
        ),
    ),
    Fault("double file", SALES, plant.delivered("all rows twice")),
    Fault("process gone", "events", plant.process("stream", "events", dies=True)),
    Fault("full disk", "the disk", plant.full_disk),
    Fault("shifted zone", SALES, plant.delivered("times in local time")),
    Fault("failing API", "marketing", plant.answering(404)),
    Fault("failing model", "stg_pos__transactions", plant.dbt(stg_pos__transactions="error")),
    Fault("nulls", SALES, plant.rows(SALES, plant.nth("quantity", None, 20))),
    Fault("stream lag", "events", plant.lagging(900)),
    Fault("stray file", "pos", plant.stray("pos/transactions", "READ ME.docx")),
    Fault("empty file", SALES, plant.delivered("an empty file")),
    Fault("slow model", "marts", plant.builds(takes=20 * MINUTE), known=20 * MINUTE),
    Fault("dropped store", SALES, plant.delivered("half of the stores missing")),
    Fault("database away", "crm", plant.variable("GRANARY_CRM_URL", "postgresql://nobody@127.0.0.1:9/crm")),
    Fault("fan-out", "daily_sales_grain", plant.dbt(daily_sales_grain="fail")),
    Fault("swapped columns", SALES, plant.delivered("two amounts swapped")),
    Fault("cut file", SALES, plant.file(SALES, plant.cut(0.6))),
    Fault("half a file", PROMOTIONS, plant.delivered("half of a weekly file", PROMOTIONS), on=plant.new_week),
    Fault("slot holds the log", "replication slot standby", slots.forgotten_slot),
    Fault("quarantine growing", SALES, plant.rows(SALES, plant.nth("sales_value", -1.0, 50))),
    Fault("failing audit", "fct_sales", plant.dbt(fct_sales="error")),
    Fault("schema change", SALES, plant.rows(SALES, plant.with_cashiers)),
    Fault("late file", SALES, plant.absent(SALES), known=12 * HOUR),
    Fault(
        "poison events",
        REDEMPTIONS,
        plant.file(REDEMPTIONS, plant.lines("{not json", '{"event_id": 7}')),
        on=plant.has_events,
    ),
    Fault("expired key", "marketing", plant.variable("GRANARY_MARKETING_KEY", "of last year")),
    Fault("mart would shrink", "daily_sales", plant.shrinking),
    Fault("zero discounts", SALES, plant.delivered("an amount that is 0")),
    Fault("double file", PROMOTIONS, plant.delivered("one week's file again", PROMOTIONS), on=plant.new_week),
    Fault("retyped column", SALES, plant.rows(SALES, plant.nth("sales_value", "n/a", 1, pa.string()))),
    Fault("failing job", "runs", plant.failing_job),
    Fault("yesterday's file again", SALES, plant.file(SALES, plant.yesterdays)),
    Fault(
        "dropped rows",
        "crm.stores",
        plant.database(
            "create table kept as select * from stores; delete from stores where store_id % 3 = 0",
            "insert into stores select * from kept on conflict do nothing; drop table kept",
        ),
    ),
    Fault("half a file", SALES, plant.delivered("the rows from the afternoon on")),
    Fault("killed run", "the run of dbt", plant.builds(dies=True), known=6 * HOUR),
    Fault("process gone", "office", plant.process("capture", "office", dies=False)),
    Fault("shifted zone", SALES, plant.delivered("times shifted twice")),
    Fault("failing API", "marketing", plant.answering(200, "<html>maintenance</html>")),
    Fault(
        "dead slot",
        "office",
        slots.captured(
            "alter system set max_slot_wal_keep_size = '1MB'",
            "select pg_reload_conf()",
            *("select pg_logical_emit_message(false, 'bench', 'filler')", "select pg_switch_wal()") * 4,
            "checkpoint",
        ),
    ),
    Fault("dropped column", SALES, plant.rows(SALES, lambda rows: rows.drop_columns(["coupon_disc"]))),
    Fault("nobody builds", "marts", plant.builds(rests=True), known=26 * HOUR, days=2),
    Fault("empty file", SALES, plant.file(SALES, lambda path: path.write_bytes(b""))),
    Fault("stray file", "events", plant.stray("events/coupon_redemptions", "copy of copy.txt")),
    Fault("new category", PROMOTIONS, plant.delivered("a category that is gone", PROMOTIONS), on=plant.new_week),
    Fault("swapped columns", SALES, plant.delivered("two ids swapped")),
    Fault("failing model", "dim_product", plant.dbt(dim_product="error")),
    Fault("nulls", SALES, plant.rows(SALES, plant.nth("store_id", None, 10))),
    Fault("landing zone away", "pos", plant.no_landing),
    Fault("prices in cents", SALES, plant.delivered("prices in cents")),
    Fault(
        "database changed",
        "crm.products",
        plant.database("alter table products rename to goods", "alter table goods rename to products"),
    ),
    Fault("quarantine growing", SALES, plant.rows(SALES, plant.nth("week", 99, 100))),
    Fault("stream lag", "events", plant.lagging(3_000)),
    Fault("late file", SALES, plant.absent(SALES), known=12 * HOUR),
)
