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
    description=(
        "One row per basket and product (1,469,307 for 2017; 364 days, because the stores are closed on "
        "December 25). Times are UTC without a zone, money is floating point, and both are put right in "
        "`stg_pos__transactions`."
    ),
    location="transactions/*.parquet",
    disposition="replace_unit",
    partition="day",
    freshness=timedelta(hours=36),
    columns=(
        Column(
            "household_id",
            pa.int64(),
            "The household that shopped.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
        Column("store_id", pa.int64(), "The store.", nullable=False),
        Column(
            "basket_id", pa.int64(), "The till receipt. It has one household and store and one moment.", nullable=False
        ),
        Column("product_id", pa.int64(), "The product; 17 are not in the catalogue (4,836 lines).", nullable=False),
        Column(
            "quantity",
            pa.int64(),
            "Pieces; for fuel thousandths of a volume. 0 for 8,869 lines.",
            nullable=False,
            minimum=0,
            maximum=1_000_000,
        ),
        Column(
            "sales_value",
            pa.float64(),
            "What the retailer receives for the line, in US dollars.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column(
            "retail_disc",
            pa.float64(),
            "Discount by the loyalty card, in US dollars.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column(
            "coupon_disc",
            pa.float64(),
            "Discount by a manufacturer's coupon, in US dollars.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column(
            "coupon_match_disc",
            pa.float64(),
            "The retailer's own match of a manufacturer's coupon, in US dollars.",
            nullable=False,
            minimum=0,
            maximum=LARGEST,
        ),
        Column("week", pa.int64(), "The retailer's week of 2017, 1 to 53.", nullable=False, minimum=1, maximum=53),
        Column(
            "transaction_timestamp",
            pa.timestamp("us"),
            "The moment of the sale, UTC, without a zone.",
            nullable=False,
            minimum=FIRST,
            maximum=LAST,
        ),
    ),
)

PROMOTIONS = Table(
    name="promotions",
    description=(
        "One row per placement of a product in a store and week (20,940,529 for 2017, 112 stores). The key "
        "repeats: 12,785 combinations of product, store and week come twice, with different placements. "
        "Loaded once a week."
    ),
    location="promotions/*.parquet",
    disposition="replace_unit",
    freshness=timedelta(days=9),
    columns=(
        Column("product_id", pa.int64(), "The product; all are in the catalogue.", nullable=False),
        Column("store_id", pa.int64(), "The store.", nullable=False),
        Column(
            "display_location", pa.string(), "Code of the place in the store, 0 for none.", nullable=False, maximum=20
        ),
        Column(
            "mailer_location",
            pa.string(),
            "Code of the place in the weekly mailer, 0 for none.",
            nullable=False,
            maximum=20,
        ),
        Column("week", pa.int64(), "The retailer's week of 2017, 1 to 53.", nullable=False, minimum=1, maximum=53),
    ),
)

SOURCE = Source(
    name="pos",
    description=(
        "The tills. One Parquet file per business day of sales and one per week of promotions, each loaded "
        "exactly once; a file that is delivered again, corrected, replaces the rows of its earlier self. "
        "Tables and columns are as the source names them, plus `_load_id` and `_row`. Never edited."
    ),
    owner="store-systems",
    kind="parquet",
    settings=("GRANARY_POS_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_POS_LANDING"]),
    tables=(TRANSACTIONS, PROMOTIONS),
)
