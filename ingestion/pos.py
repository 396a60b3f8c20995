"""Point of sale: a landing zone with a file of receipt lines per business day and of promotions per week."""

from datetime import datetime, timedelta

import pyarrow as pa

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table

LARGEST = 1_000_000
"""Dollars of a line: models keep money in numeric(12, 2), and add lines up. The year's dearest line is 840.00."""
FIRST, LAST = (datetime.fromisoformat(text) for text in ("2016-11-01 04:00:00", "2018-03-01 04:59:59.999999"))
"""The calendar of the marts (`calendar_start` and `calendar_end` in dbt_project.yml) as New York days, in UTC."""

TRANSACTIONS = Table(
    name="transactions",
    description="One line of a receipt: a product in a basket. One file per business day (New York), named by it.",
    location="transactions/*.parquet",
    disposition="replace_unit",
    partition="day",
    freshness=timedelta(hours=36),
    columns=(
        Column(
            "household_id",
            pa.int64(),
            "Household of the loyalty card.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
        Column("store_id", pa.int64(), "Store in which the basket was paid.", nullable=False),
        Column("basket_id", pa.int64(), "Receipt.", nullable=False),
        Column("product_id", pa.int64(), "Product on the line.", nullable=False),
        Column(
            "quantity",
            pa.int64(),
            "Pieces; for fuel thousandths of a volume.",
            nullable=False,
            minimum=0,
            maximum=1_000_000,
        ),
        Column(
            "sales_value",
            pa.float64(),
            "US dollars that the retailer receives.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column(
            "retail_disc", pa.float64(), "US dollars of loyalty discount.", nullable=False, minimum=0, maximum=LARGEST
        ),
        Column(
            "coupon_disc",
            pa.float64(),
            "US dollars of manufacturer coupon.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column(
            "coupon_match_disc",
            pa.float64(),
            "US dollars of matched coupon.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column("week", pa.int64(), "Week of the retailer's year, 1 to 53.", nullable=False, minimum=1, maximum=53),
        Column(
            "transaction_timestamp",
            pa.timestamp("us"),
            "Time of payment, UTC without a zone.",
            nullable=False,
            minimum=FIRST,
            maximum=LAST,
        ),
    ),
)

PROMOTIONS = Table(
    name="promotions",
    description="A product's place in a store and in its mailer in a week. One file per week; a key may come twice.",
    location="promotions/*.parquet",
    disposition="replace_unit",
    freshness=timedelta(days=9),
    columns=(
        Column("product_id", pa.int64(), "Product on promotion.", nullable=False),
        Column("store_id", pa.int64(), "Store that promotes it.", nullable=False),
        Column(
            "display_location", pa.string(), "Code of its place in the store; 0 is none.", nullable=False, maximum=20
        ),
        Column(
            "mailer_location", pa.string(), "Code of its place in the mailer; 0 is none.", nullable=False, maximum=20
        ),
        Column("week", pa.int64(), "Week of the retailer's year, 1 to 53.", nullable=False, minimum=1, maximum=53),
    ),
)

SOURCE = Source(
    name="pos",
    description="Point-of-sale exports that the stores' head office drops into a landing zone.",
    owner="store-systems",
    kind="parquet",
    settings=("GRANARY_POS_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_POS_LANDING"]),
    tables=(TRANSACTIONS, PROMOTIONS),
)
