"""The whole real year: it reconciles with the published figures, and running again changes nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect, execute
from tests.python.support.command import granary

if TYPE_CHECKING:
    from tests.python.project.main_job.conftest import Year

# From the publisher's own files.
RAW_ROWS = {
    "raw_pos.transactions": 1_469_307,
    "raw_pos.promotions": 20_940_529,
    "raw_crm.households": 2_469,
    "raw_crm.products": 92_331,
    "raw_crm.stores": 457,
    "raw_marketing.campaigns": 27,
    "raw_marketing.recipients": 6_589,
    "raw_marketing.coupons": 116_204,
    "raw_events.coupon_redemptions": 2_102,
}
MART_ROWS = {
    "fct_sales": 1_469_307,
    "fct_baskets": 155_848,
    "fct_promotions": 20_927_744,
    "fct_campaign_contacts": 6_589,
    "fct_coupon_redemptions": 2_102,
    "store_performance": 457,
    "household_value": 2_469,
    "cohort_retention": 12 * 13 // 2,
    "monthly_sales": 12,
    "rfm_segments": 25,
    "dim_campaign": 27,
    "dim_coupon": 981,
    # 2,469 households, of which 70 changed once. Below: 92,331 products, of which 162 did, and 20 that the catalogue
    # lacks: 17 are sold and 6 have coupons, 3 of them both.
    "dim_household": 2_469 + 70,
    "campaign_performance": 27,
    "coupon_performance": 1_197,
    "coupon_products": 111_332,
    "repeated_placements": 2 * 12_785,
    "redemption_attribution": 2_102,
    "promotion_performance": 8_871,
    "promotion_lift": 68_509,
    "product_performance": 68_509,
    "product_price_history": 593_376,
    "basket_affinity": 1_046,
}
MARTS = (
    *MART_ROWS,
    *("dim_product", "dim_store", "dim_date", "daily_sales", "weekly_category_sales", "private_label_share"),
    "household_value_backtest",
)


def test_raw_reconciles_with_the_sources(year: Year) -> None:
    assert {f"raw_{s.name}.{t.name}" for s in SOURCES.values() for t in s.tables} == set(RAW_ROWS)
    assert {name: year.query(f"select count(*) from {name}")[0][0] for name in RAW_ROWS} == RAW_ROWS
    ledger = (
        "select sum(rows_read), sum(rows_loaded), sum(rows_quarantined) from ops.load_audit"
        " where source = 'pos' and status = 'loaded'"
    )
    assert [tuple(map(int, map(str, row))) for row in year.query(ledger)] == [(22_409_836, 22_409_836, 0)]
    raw = "select sum(sales_value::numeric(12, 2)) from raw_pos.transactions"
    assert Decimal(str(year.query(raw)[0][0])) == Decimal("4596039.58")


def test_marts_hold_the_published_figures(year: Year) -> None:
    assert {name: year.query(f"select count(*) from marts.{name}")[0][0] for name in MART_ROWS} == MART_ROWS
    money = "select sum(sales_value), sum(retail_disc), sum(coupon_disc), sum(coupon_match_disc) from marts.fct_sales"
    figures = ["4596039.58", "791650.64", "26359.90", "4542.65"]
    assert [str(value) for value in year.query(money)[0]] == figures
    counts = (
        "select count(distinct basket_id), count(distinct household_id), count(distinct store_id),"
        " count(distinct business_date) from marts.fct_sales"
    )
    assert year.query(counts) == [(155_848, 2_469, 457, 364)]
    versions = (
        "select count(*) filter (where is_current), count(*) filter (where not is_current) from marts.dim_product"
    )
    ((current, old),) = year.query(versions)
    assert (current, old) == (92_331 + 20, 162)


def test_versions_are_those_of_the_time_of_sale(year: Year) -> None:
    changed = (
        "select count(distinct s.household_key) from marts.fct_sales as s inner join marts.dim_household as h"
        " using (household_key) where s.sold_at < h.valid_from or s.sold_at >= h.valid_to"
    )
    assert year.query(changed) == [(0,)]


def test_second_run_changes_nothing(year: Year) -> None:
    def marts() -> dict[str, object]:
        # The sum of row hashes: equal multisets of rows have equal sums.
        sums = "select count(*), sum(hashtextextended(t::text, 0)::numeric) from marts.{} as t"
        small = [name for name in MARTS if name != "fct_promotions"]
        found: dict[str, object] = {name: year.query(sums.format(name)) for name in small}
        found["fct_promotions"] = year.query(
            "select count(*), sum(product_id), max(xmin::text) from marts.fct_promotions"
        )
        return found

    before = marts()
    last = year.query("select max(load_id) from ops.load_audit")[0][0]
    done = granary(year.settings, "demo", "run")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "every model: nothing changed since they were built" in done.stdout
    assert "materialized" not in done.stdout
    # And if they are built again nevertheless, they are the same.
    with connect(year.settings) as connection:
        execute(connection, "delete from ops.whole_builds")
        connection.commit()
    done = granary(year.settings, "demo", "run")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "materialized daily_sales" in " ".join(done.stdout.split())
    assert marts() == before
    assert year.query(f"select distinct status from ops.load_audit where load_id > {last}") == [("unchanged",)]


def test_the_end_of_the_run_says_what_came_of_it(year: Year) -> None:
    assert "20,940,529 rows" in year.printed
    assert "0 failed" in year.printed
    assert "Try next:" in year.printed


def test_analysts_read_the_marts_and_nothing_else(year: Year) -> None:
    allowed = granary(
        year.settings, "psql", "-qAt", "-c", "set role analyst", "-c", "select count(*) from marts.fct_baskets"
    )
    assert (allowed.returncode, allowed.stdout.strip()) == (0, "155848")
    refused = granary(
        year.settings, "psql", "-v", "ON_ERROR_STOP=1", "-c", "set role analyst", "-c", "table raw_crm.households"
    )
    assert refused.returncode != 0
    assert "permission denied" in refused.stderr
