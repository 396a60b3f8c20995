"""A small, whole retailer for tests: the first households and all that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demo.data import Data, coarse
from demo.files import put, writing
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path


def cut(data: Data, households: int, folder: Path) -> Data:
    """Write the part of `data` that belongs to the households with an id up to `households` into `folder`.

    Kept are those households, their baskets and stores, the campaigns that reached them, their redemptions;
    of these campaigns' coupons the rows for a product that they bought and, of each coupon they redeemed, the
    row of its lowest product (one coupon can name 10,000); the products bought or named by a kept coupon row;
    the promotions of kept products in kept stores. So each reference that holds in the whole holds here.

    Raises:
        GranaryError: no household has such an id.
    """
    transactions = _of(data, "transactions", households)
    if not transactions.num_rows:
        raise GranaryError(f"no household of the sample data has an id up to {households}", todo="ask for 1 or more")
    recipients = _of(data, "campaigns", households)
    redemptions = _of(data, "coupon_redemptions", households)
    bought = transactions["product_id"].unique()
    coupons = _coupons(data.read("coupons"), recipients, redemptions, bought)
    products = pa.concat_arrays([bought, coupons["product_id"].combine_chunks()]).unique()
    catalogue = data.read("products")
    campaigns = data.read("campaign_descriptions")
    for name, table in {
        "transactions": transactions,
        "demographics": _of(data, "demographics", households),
        "campaigns": recipients,
        "coupon_redemptions": redemptions,
        "coupons": coupons,
        "products": catalogue.filter(pc.is_in(catalogue["product_id"], products)),
        "campaign_descriptions": campaigns.filter(
            pc.is_in(campaigns["campaign_id"], recipients["campaign_id"].unique())
        ),
    }.items():
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        put(Data(folder).path(name), sink.getvalue())
    _promotions(data, Data(folder), products, transactions["store_id"].unique())
    return Data(folder)


def _of(data: Data, table: str, households: int) -> pa.Table:
    kept = [batch.filter(pc.less_equal(batch.column("household_id"), households)) for batch in data.batches(table)]
    return coarse(pa.Table.from_batches(kept))


def _coupons(coupons: pa.Table, recipients: pa.Table, redemptions: pa.Table, bought: pa.Array) -> pa.Table:
    reached = coupons.filter(pc.is_in(coupons["campaign_id"], recipients["campaign_id"].unique()))
    offers = reached.append_column("offer", _offer(reached))
    lowest = offers.group_by("offer").aggregate([("product_id", "min")])
    lowest = lowest.filter(pc.is_in(lowest["offer"], _offer(redemptions).unique()))
    named = pc.is_in(_pair(offers["offer"], offers["product_id"]), _pair(lowest["offer"], lowest["product_id_min"]))
    return reached.filter(pc.or_(named, pc.is_in(reached["product_id"], bought)))


def _offer(table: pa.Table) -> pa.ChunkedArray:
    """Return one number for each row's coupon in its campaign: campaigns have two digits, UPCs eleven."""
    return pc.add(pc.multiply(table["coupon_upc"], 100), table["campaign_id"])


def _pair(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.Array:
    """Return one text for each pair of numbers."""
    return pc.binary_join_element_wise(left.cast(pa.string()), right.cast(pa.string()), "/").combine_chunks()


def _promotions(data: Data, part: Data, products: pa.Array, stores: pa.Array) -> None:
    writer = None
    for batch in data.batches("promotions"):
        keep = pc.and_(pc.is_in(batch.column("product_id"), products), pc.is_in(batch.column("store_id"), stores))
        with writing(part.path("promotions")):
            writer = writer or pq.ParquetWriter(part.path("promotions"), batch.schema.remove_metadata())
            writer.write_batch(batch.filter(keep))
    if writer:
        with writing(part.path("promotions")):
            writer.close()
