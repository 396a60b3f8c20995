"""Customer and product master: a Postgres database whose rows change in place and carry the time of the change."""

from datetime import datetime, timedelta, timezone

import pyarrow as pa

from granary.readers.database import DatabaseReader
from granary.sources.spec import Column, Source, Table

LONGEST = 200
"""Characters of a text: marts are indexed by some, and an index takes no long ones. The year's longest has 30."""
UPDATED_AT = Column(
    "updated_at",
    pa.timestamp("us", tz="UTC"),
    "Last change of the row in the CRM.",
    nullable=False,
    minimum=datetime(2000, 1, 1, tzinfo=timezone.utc),
    maximum=datetime(2100, 1, 1, tzinfo=timezone.utc),
)

HOUSEHOLDS = Table(
    name="households",
    description="Every household that ever shopped (2,469), with demographics where it answered the survey (801).",
    location="public.households",
    disposition="merge",
    key=("household_id",),
    cursor="updated_at",
    freshness=timedelta(days=60),
    columns=(
        Column(
            "household_id",
            pa.int64(),
            "The household, a pseudonym.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
        Column(
            "age",
            pa.string(),
            "Age of the head of the household, in years, as a range.",
            personal="demographic",
            maximum=LONGEST,
        ),
        Column(
            "income",
            pa.string(),
            "Yearly income in US dollars, as one of twelve brackets.",
            personal="demographic",
            maximum=LONGEST,
        ),
        Column(
            "home_ownership",
            pa.string(),
            "Owner or renter, perhaps probable.",
            personal="demographic",
            maximum=LONGEST,
        ),
        Column("marital_status", pa.string(), "Married or Unmarried.", personal="demographic", maximum=LONGEST),
        Column("household_size", pa.string(), "Number of people, 1 to 5+.", personal="demographic", maximum=LONGEST),
        Column("household_comp", pa.string(), "Adults, with or without kids.", personal="demographic", maximum=LONGEST),
        Column("kids_count", pa.string(), "Number of children, 0 to 3+.", personal="demographic", maximum=LONGEST),
        UPDATED_AT,
    ),
)

PRODUCTS = Table(
    name="products",
    description="The catalogue (92,331 products). Not every product that is sold is in it.",
    location="public.products",
    disposition="merge",
    key=("product_id",),
    cursor="updated_at",
    freshness=timedelta(days=40),
    columns=(
        Column("product_id", pa.int64(), "The product.", nullable=False),
        Column("manufacturer_id", pa.int64(), "The manufacturer."),
        Column("department", pa.string(), "Top of the product hierarchy, which is not a tree.", maximum=LONGEST),
        Column("brand", pa.string(), "National or Private.", allowed=("National", "Private")),
        Column("product_category", pa.string(), "Middle of the hierarchy, null for 540 products.", maximum=LONGEST),
        Column("product_type", pa.string(), "Bottom of the hierarchy, null for 528 products.", maximum=LONGEST),
        Column("package_size", pa.string(), "Size as printed, in no agreed unit.", maximum=LONGEST),
        UPDATED_AT,
    ),
)

STORES = Table(
    name="stores",
    description="The stores (457), by number only. Replaced whole by each load.",
    location="public.stores",
    disposition="replace",
    key=("store_id",),
    freshness=timedelta(days=400),
    floor=0.9,
    columns=(Column("store_id", pa.int64(), "The store.", nullable=False), UPDATED_AT),
)

SOURCE = Source(
    name="crm",
    description=(
        "The CRM's Postgres database: households, products and stores as they are now, read by `updated_at`; "
        "a changed row replaces its earlier self, and the snapshots keep the history. Never edited."
    ),
    owner="customer-data",
    kind="postgres",
    settings=("GRANARY_CRM_URL",),
    open_reader=lambda settings: DatabaseReader(settings["GRANARY_CRM_URL"]),
    tables=(HOUSEHOLDS, PRODUCTS, STORES),
)
