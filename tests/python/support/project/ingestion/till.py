"""The tills: a landing zone with a file of receipt lines per day, and of prices per week."""

from datetime import datetime, timedelta

import pyarrow as pa

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table

FIRST, LAST = datetime(2016, 11, 1), datetime(2018, 3, 1)  # noqa: DTZ001 - the tills write UTC without a zone

RECEIPTS = Table(
    name="receipts",
    description="One line of a receipt. One file per day, named by it.",
    location="receipts/*.parquet",
    disposition="replace_unit",
    partition="day",
    freshness=timedelta(hours=36),
    columns=(
        Column("member_id", pa.int64(), "Member of the club.", nullable=False, personal="pseudonym"),
        Column("shop_id", pa.int64(), "Shop.", nullable=False),
        Column("receipt_id", pa.int64(), "Receipt.", nullable=False),
        Column("article_id", pa.int64(), "Article on the line.", nullable=False),
        Column("quantity", pa.int64(), "Pieces.", nullable=False, minimum=0, maximum=1_000_000),
        Column("amount", pa.float64(), "What was paid.", nullable=False, minimum=0, maximum=1_000_000),
        Column("discount", pa.float64(), "What was let off.", nullable=False, minimum=0, maximum=1_000_000),
        Column("week", pa.int64(), "Week of the year.", nullable=False, minimum=1, maximum=53),
        Column("paid_at", pa.timestamp("us"), "Time, UTC without a zone.", nullable=False, minimum=FIRST, maximum=LAST),
    ),
)

PRICES = Table(
    name="prices",
    description="The price of an article in a week. One file per week.",
    location="prices/*.parquet",
    disposition="replace_unit",
    freshness=timedelta(days=9),
    columns=(
        Column("article_id", pa.int64(), "Article.", nullable=False),
        Column("week", pa.int64(), "Week of the year.", nullable=False, minimum=1, maximum=53),
        Column("price", pa.float64(), "Price of a piece.", nullable=False, minimum=0),
    ),
)

SOURCE = Source(
    name="till",
    description="What the tills export.",
    owner="shops",
    kind="parquet",
    settings=("GRANARY_TILL_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_TILL_LANDING"]),
    tables=(RECEIPTS, PRICES),
)
