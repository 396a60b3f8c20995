"""The retailer's systems, which change from step to step as such systems do, and what happens to a warehouse."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from demo import clock as calendar
from demo import crm, events, retailer
from granary.load.api import load_table
from granary.load.withdrawal import withdraw
from granary.privacy.forget import forget
from granary.privacy.identity import identify
from granary.sources.select import select
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.python.project.histories.recorded import Builds
    from tests.python.project.pipeline.conftest import Pipeline

Row = dict[str, Any]
UNKNOWN = 900_000_000
"""What ids of the made-up begin with: the systems do not know them, until they do."""
FUEL = "GASOLINE-REG UNLEADED"
AHEAD = (1, 1, 2, 3, 7, 14, 31)
"""By how many days the clock moves."""


@dataclass
class World:
    """One warehouse with the retailer beside it, in the middle of a history."""

    pipeline: Pipeline
    builds: Builds
    variant: str = "plain"
    erased: set[int] = field(default_factory=set)

    @property
    def landing(self) -> Path:
        return self.pipeline.settings.home / "demo" / "landing"

    @property
    def stock(self) -> Path:
        return self.pipeline.settings.home / "demo" / "stock"

    def load(self, *names: str, full_refresh: bool = False) -> None:
        with retailer.systems(self.pipeline.settings):
            for source, table in select(names):
                load_table(self.pipeline.settings, source, table, full_refresh=full_refresh)

    def build(self, **how: Any) -> None:
        self.builds.build(self.variant, **how)

    def files(self, folder: str) -> list[Path]:
        """Return what has been delivered and is still there."""
        return sorted((self.landing / folder).iterdir())

    def withheld(self, folder: str) -> list[Path]:
        """Return what should have been delivered by now and is not there."""
        today = retailer.clock(self.pipeline.settings)
        due = [path for path in sorted((self.stock / folder).iterdir()) if _due(path.stem) <= today]
        return [path for path in due if not (self.landing / folder / path.name).exists()]

    def sold(self) -> list[int]:
        """Return the products that have been sold."""
        rows = self.pipeline.query("select distinct product_id from raw_pos.transactions order by 1")
        return [int(key) for (key,) in rows]

    def crm(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.pipeline.settings, crm.database(self.pipeline.settings)) as connection:
            if sql.startswith("select"):
                return query(connection, sql, *parameters)
            execute(connection, sql, *parameters)
            connection.commit()
            return []


def _due(name: str) -> date:
    return calendar.first_day(int(name[5:])) if name.startswith("week-") else date.fromisoformat(name)


# -- what the tills deliver ----------------------------------------------------------------------------------


def days_pass(world: World, random: Random) -> None:
    """Business goes on; some of the files are late, and some systems are not asked."""
    settings, today = world.pipeline.settings, retailer.clock(world.pipeline.settings)
    to = min(today + timedelta(days=random.choice(AHEAD)), calendar.LAST_DAY)
    there = {path for folder in FOLDERS for path in world.files(folder)}
    retailer.advance(settings, to)
    if random.random() < 0.5:
        for folder in FOLDERS:
            for path in world.files(folder):
                if path not in there and random.random() < 0.3:
                    path.unlink()
    sources = ["pos", "events", "crm", "marketing"]
    world.load(*(random.sample(sources, random.randint(1, 4)) if random.random() < 0.3 else sources))


def months_pass(world: World, random: Random) -> None:
    """As days pass, and more of them."""
    today = retailer.clock(world.pipeline.settings)
    retailer.advance(world.pipeline.settings, min(today + timedelta(days=random.randint(20, 90)), calendar.LAST_DAY))
    world.load()


def late_files(world: World, random: Random) -> None:
    """What was late comes, or what was changed comes as it was at first."""
    for folder in FOLDERS:
        for path in world.withheld(folder):
            if random.random() < 0.7:
                (world.landing / folder / path.name).write_bytes(path.read_bytes())
        changed = [path for path in world.files(folder) if _differs(world.stock / folder / path.name, path)]
        for path in changed:
            if random.random() < 0.5:
                path.write_bytes((world.stock / folder / path.name).read_bytes())
    world.load("pos", "events")


def _differs(origin: Path, path: Path) -> bool:
    return origin.exists() and origin.read_bytes() != path.read_bytes()


def sales_corrected(world: World, random: Random) -> None:
    """Some receipts of some days change."""
    for path in _some(random, world.files(SALES), 3):
        rows = _rows(path)
        for _ in range(random.randint(1, 3)):
            if rows:
                rows = random.choice(CORRECTIONS)(world, random, rows)
        _write(path, rows)
    world.load("pos.transactions")


def _dropped(_: World, random: Random, rows: list[Row]) -> list[Row]:
    gone = random.choice(rows)
    if random.random() < 0.5:
        return [row for row in rows if row is not gone]
    return [row for row in rows if row["basket_id"] != gone["basket_id"]]


def _other_numbers(_: World, random: Random, rows: list[Row]) -> list[Row]:
    row = random.choice(rows)
    row["quantity"] = random.choice((0, 1, 2, row["quantity"] + 1))
    for name in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"):
        if random.random() < 0.4:
            row[name] = round(random.choice((0.0, row[name] + 1, random.random() * 20)), 2)
    return rows


def _other_product(world: World, random: Random, rows: list[Row]) -> list[Row]:
    row = random.choice(rows)
    taken = {other["product_id"] for other in rows if other["basket_id"] == row["basket_id"]}
    known = [int(key) for (key,) in world.crm("select product_id from products order by 1")]
    chosen = random.choice((random.choice(known), UNKNOWN + random.randint(1, 5)))
    row["product_id"] = row["product_id"] if chosen in taken else chosen
    return rows


def _other_household(world: World, random: Random, rows: list[Row]) -> list[Row]:
    chosen = random.choice((random.randint(1, 7), UNKNOWN + random.randint(1, 3)))
    return _of_basket(random, rows, household_id=chosen) if chosen not in world.erased else rows


def _other_store(world: World, random: Random, rows: list[Row]) -> list[Row]:
    known = [int(key) for (key,) in world.crm("select store_id from stores order by 1")]
    chosen = random.choice((random.choice(known), UNKNOWN + random.randint(1, 3)))
    return _of_basket(random, rows, store_id=chosen)


def _other_moment(_: World, random: Random, rows: list[Row]) -> list[Row]:
    """A receipt is of another day than its file."""
    moment = random.choice(rows)["transaction_timestamp"] + timedelta(days=random.choice((-40, -7, -1, 1, 7)), hours=1)
    moment = min(max(moment, datetime(2017, 1, 1, 12)), datetime(2017, 12, 31, 12))  # noqa: DTZ001 - as the tills say it
    week = ((moment - timedelta(hours=5)).date() - date(2016, 12, 26)).days // 7 + 1
    return _of_basket(random, rows, transaction_timestamp=moment, week=week)


def _more(_: World, random: Random, rows: list[Row]) -> list[Row]:
    """A receipt comes twice, under another number."""
    number = random.choice(rows)["basket_id"]
    other = UNKNOWN + random.randrange(10**6)
    return rows + [row | {"basket_id": other} for row in rows if row["basket_id"] == number]


def _of_basket(random: Random, rows: list[Row], **values: object) -> list[Row]:
    number = random.choice(rows)["basket_id"]
    return [row | values if row["basket_id"] == number else row for row in rows]


CORRECTIONS = (_dropped, _other_numbers, _other_product, _other_household, _other_store, _other_moment, _more)


def a_day_emptied(world: World, random: Random) -> None:
    """A file has no rows any more, or is withdrawn."""
    folder = random.choice((SALES, SALES, PROMOTIONS))
    table = folder.partition("/")[2]
    for path in _some(random, world.files(folder), 2):
        if random.random() < 0.5:
            pq.write_table(pq.read_table(path).slice(0, 0), path)
            world.load(f"pos.{table}")
        elif world.pipeline.query(f"select 1 from ops.load_audit where unit = '{path.name}' and rows_loaded > 0"):
            world.load(f"pos.{table}")
            path.unlink()
            withdraw(world.pipeline.settings, "pos", table, [path.name])


def placements_corrected(world: World, random: Random) -> None:
    """Some placements of a week go, change, come twice or are new."""
    for path in _some(random, world.files(PROMOTIONS), 2):
        table = pq.read_table(path)
        rows, week = table.to_pylist(), int(path.stem[5:])
        sold = world.pipeline.query(
            "select distinct product_id, store_id from raw_pos.transactions where product_id < 900000000 order by 1, 2"
        )
        pairs = set(_some(random, sold, 40, least=1))
        mine = [n for n, row in enumerate(rows) if (row["product_id"], row["store_id"]) in pairs]
        kind = random.choice(("go", "change", "twice", "new", "thin"))
        if kind == "go":
            rows = [row for n, row in enumerate(rows) if n not in set(mine)]
        elif kind == "thin":
            rows = [row for row in rows if random.random() < 0.2]
        elif kind in ("change", "twice"):
            changed = [rows[n] | {"display_location": random.choice("0123"), "mailer_location": "A"} for n in mine]
            kept = [row for n, row in enumerate(rows) if kind == "twice" or n not in set(mine)]
            rows = kept + changed
        else:
            new = [dict(zip(("product_id", "store_id"), pair, strict=True)) for pair in sorted(pairs)]
            rows += [row | {"display_location": "9", "mailer_location": "0", "week": week} for row in new]
        distinct = {tuple(row.values()): row for row in rows}  # only a line that is another one comes twice
        pq.write_table(pa.Table.from_pylist(list(distinct.values()), table.schema), path)
    world.load("pos.promotions")


# -- events, CRM, marketing ----------------------------------------------------------------------------------


def late_redemptions(world: World, random: Random) -> None:
    """Coupons were redeemed some days ago, on days with a receipt, perhaps by somebody who bought what they cover."""
    lines = world.pipeline.query(
        "select distinct household_id, business_date, campaign_id, coupon_upc, 1"
        " from build.fct_sales inner join build.dim_household using (household_id)"
        " inner join raw_marketing.coupons using (product_id)"
        " where household_id < 900000000 order by 1, 2, 3, 4"
    )
    if not lines:
        return
    today, said = retailer.clock(world.pipeline.settings), []
    for household, day, campaign, coupon, _ in _some(random, lines, 4, least=1):
        if household not in world.erased:
            said.append(events.event(household, coupon, campaign, day - timedelta(days=random.choice((0, 0, 0, 1)))))
    path = world.landing / REDEMPTIONS / f"{today}.jsonl"
    known = path.read_text() if path.exists() else ""
    path.write_text(known + "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in said))
    world.load("events")


def receipts_of_coupons(world: World, random: Random) -> None:
    """On days with redemptions, lines get or lose what a coupon took off."""
    days = world.pipeline.query("select distinct business_date::text from build.fct_coupon_redemptions order by 1")
    for (day,) in _some(random, days, 3):
        path = world.landing / SALES / f"{day}.parquet"
        if path.exists() and (rows := _rows(path)):
            for row in rows:
                row["coupon_disc"] = random.choice((0.0, row["coupon_disc"], 1.0, 0.5))
            _write(path, rows)
    world.load("pos.transactions")


def products_change(world: World, random: Random) -> None:
    """Products get a new version, which may have been valid for long; or a value is put right; or they are new."""
    sold = world.sold()
    known = {int(key): at for key, at in world.crm("select product_id, updated_at from products")}
    silently = random.random() < 0.3
    for key in _some(random, sold or sorted(known), 12, least=1):
        values = {
            "department": random.choice(("GROCERY", "DRUG GM", "PRODUCE", "NEW", None)),
            "product_category": random.choice(("CHEESE", "SOFT DRINKS", "NEW", None)),
            "product_type": random.choice((FUEL, "CHEESE", None)),
            "brand": random.choice(("National", "Private")),
        }
        chosen = dict(random.sample(sorted(values.items()), random.randint(1, 4)))
        _change(world, random, "products", "product_id", key, known.get(key), chosen, silently=silently)
    world.load("crm.products", full_refresh=silently)


def households_change(world: World, random: Random) -> None:
    """As products."""
    known = {int(key): at for key, at in world.crm("select household_id, updated_at from households")}
    silently = random.random() < 0.3
    keys = [key for key in (*range(1, 8), *(UNKNOWN + n for n in (1, 2, 3))) if key not in world.erased]
    for key in _some(random, keys, 3, least=1):
        values = {"age": random.choice(("19-24", "65+", None)), "income": random.choice(("Under 15K", "250K+", None))}
        _change(world, random, "households", "household_id", key, known.get(key), values, silently=silently)
    world.load("crm.households", full_refresh=silently)


def _change(
    world: World, random: Random, table: str, name: str, key: int, at: datetime | None, values: Row, *, silently: bool
) -> None:
    now = datetime.combine(retailer.clock(world.pipeline.settings), datetime.min.time(), timezone.utc)
    if at is None:
        new = {name: key, **values, "updated_at": now - timedelta(days=random.randint(0, 60))}
        places = ", ".join(f"${n}" for n in range(1, len(new) + 1))
        world.crm(f"insert into {table} ({', '.join(new)}) values ({places})", *new.values())
        return
    ago = timedelta(days=random.choice((0, 5, 30, 90)), seconds=random.randrange(86400))
    later = max(at + timedelta(seconds=1), now - ago)
    changed = values | ({} if silently else {"updated_at": later})
    settings = ", ".join(f"{column} = ${n}" for n, column in enumerate(changed, start=2))
    world.crm(f"update {table} set {settings} where {name} = $1", key, *changed.values())


def stores_change(world: World, random: Random) -> None:
    """A store is new, or no more."""
    known = [int(key) for (key,) in world.crm("select store_id from stores order by 1")]
    if random.random() < 0.5:
        world.crm("insert into stores values ($1, now()) on conflict do nothing", UNKNOWN + random.randint(1, 5))
    else:
        world.crm("delete from stores where store_id = $1", random.choice(known))
    try:
        world.load("crm.stores")
    except GranaryError:  # too many are gone at once
        world.crm("insert into stores select unnest($1::bigint[]), now() on conflict do nothing", known)


def campaigns_change(world: World, random: Random) -> None:
    """The marketing system says other recipients, coupons or dates of what it has said before."""
    data = world.pipeline.settings.home / "demo" / "data"
    campaigns = [row["campaign_id"] for row in _rows(data / "campaign_descriptions.parquet")]
    kind = random.choice(("recipients", "coupons", "dates"))
    if kind == "recipients":
        rows = _rows(data / "campaigns.parquet")
        rows = [row for row in rows if random.random() < 0.8]
        there = {(row["campaign_id"], row["household_id"]) for row in rows}
        for _ in range(random.randint(0, 4)):
            pair = (random.choice(campaigns), random.randint(1, 7))
            if pair not in there and pair[1] not in world.erased:
                there.add(pair)
                rows.append({"campaign_id": pair[0], "household_id": pair[1]})
        _write(data / "campaigns.parquet", rows)
    elif kind == "coupons":
        redeemed = set(world.pipeline.query("select campaign_id, coupon_upc from raw_events.coupon_redemptions"))
        rows = _rows(data / "coupons.parquet")
        kept = [row for row in rows if (row["campaign_id"], row["coupon_upc"]) in redeemed or random.random() < 0.9]
        sold = world.sold()
        new = [random.choice(rows) | {"product_id": random.choice(sold or [1])} for _ in range(random.randint(0, 20))]
        _write(data / "coupons.parquet", kept + new)
    else:
        rows = _rows(data / "campaign_descriptions.parquet")
        for row in _some(random, rows, 2, least=1):
            row["end_date"] += timedelta(days=random.choice((-5, 3, 20)))
            row["campaign_type"] = random.choice(("Type A", "Type B"))
        _write(data / "campaign_descriptions.parquet", rows)
    world.load("marketing", full_refresh=True)


# -- what people do ------------------------------------------------------------------------------------------


def somebody_is_forgotten(world: World, random: Random) -> None:
    """Erase a household; the build that belongs to it is of everything."""
    there = [key for key in range(1, 8) if key not in world.erased]
    if len(there) <= 4:
        return
    key = random.choice(there)
    world.erased.add(key)
    forget(world.pipeline.settings, identify("household", str(key)), build=lambda _: world.build(erasing=True))


def a_window_is_asked_for(world: World, random: Random) -> None:
    """A build with --from and --to."""
    day = retailer.clock(world.pipeline.settings) - timedelta(days=random.randrange(40))
    world.build(window=(str(day), str(day + timedelta(days=random.randrange(10)))))


def a_part_is_built(world: World, random: Random) -> None:
    """A model fails, and so what reads it is not built either: it has more to take in later."""
    nodes = world.builds.nodes()
    left_out = set(random.sample(nodes, random.randint(1, 3)))
    for node in nodes:  # in the order of building
        if left_out.intersection(world.builds.manifest.parent_map[node]):
            left_out.add(node)
    world.build(nodes=set(nodes) - left_out)


def a_part_is_built_anew(world: World, random: Random) -> None:
    """A full refresh of a few models."""
    world.build(anew=set(random.sample(world.builds.nodes(), 2)))


def other_vars(world: World, random: Random) -> None:
    """The project has other vars from now on."""
    world.variant = random.choice(sorted(world.builds.variants.keys() - {world.variant}) or [world.variant])
    world.build()


SALES, PROMOTIONS, REDEMPTIONS = "pos/transactions", "pos/promotions", "events/coupon_redemptions"
FOLDERS = (SALES, PROMOTIONS, REDEMPTIONS)
STEPS: dict[Callable[[World, Random], None], int] = {
    days_pass: 6,
    months_pass: 2,
    late_files: 2,
    sales_corrected: 5,
    a_day_emptied: 2,
    placements_corrected: 3,
    late_redemptions: 3,
    receipts_of_coupons: 2,
    products_change: 3,
    households_change: 2,
    stores_change: 1,
    campaigns_change: 2,
    somebody_is_forgotten: 1,
    a_window_is_asked_for: 1,
    a_part_is_built: 2,
    a_part_is_built_anew: 1,
    other_vars: 1,
}
"""How often each is chosen, in comparison."""


def _some(random: Random, items: Any, most: int, least: int = 0) -> list[Any]:
    there = list(items)
    return random.sample(there, min(len(there), random.randint(least or 1, most)))


def _rows(path: Path) -> list[Row]:
    return list(pq.read_table(path).to_pylist())


def _write(path: Path, rows: list[Row]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
