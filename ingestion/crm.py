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
    "When the row last changed.",
    nullable=False,
    minimum=datetime(2000, 1, 1, tzinfo=timezone.utc),
    maximum=datetime(2100, 1, 1, tzinfo=timezone.utc),
)

HOUSEHOLDS = Table(
    name="households",
    description="A household with a loyalty card, with what it told about itself, if it did.",
    location="public.households",
    disposition="merge",
    key=("household_id",),
    cursor="updated_at",
    freshness=timedelta(days=60),
    columns=(
        Column(
            "household_id",
            pa.int64(),
            "Household of the loyalty card.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
        Column("age", pa.string(), "Age bracket of its head, in years.", personal="demographic", maximum=LONGEST),
        Column(
            "income", pa.string(), "Bracket of yearly income, in US dollars.", personal="demographic", maximum=LONGEST
        ),
        Column(
            "home_ownership",
            pa.string(),
            "Owner or renter, known or probable.",
            personal="demographic",
            maximum=LONGEST,
        ),
        Column("marital_status", pa.string(), "Married or unmarried.", personal="demographic", maximum=LONGEST),
        Column("household_size", pa.string(), "Persons, up to 5+.", personal="demographic", maximum=LONGEST),
        Column("household_comp", pa.string(), "Adults and kids, in words.", personal="demographic", maximum=LONGEST),
        Column("kids_count", pa.string(), "Kids, up to 3+.", personal="demographic", maximum=LONGEST),
        UPDATED_AT,
    ),
)

PRODUCTS = Table(
    name="products",
    description="A product of the catalogue. Not every product that is sold is in it.",
    location="public.products",
    disposition="merge",
    key=("product_id",),
    cursor="updated_at",
    freshness=timedelta(days=40),
    columns=(
        Column("product_id", pa.int64(), "Product.", nullable=False),
        Column("manufacturer_id", pa.int64(), "Maker of the product."),
        Column("department", pa.string(), "Top of the product hierarchy, which is not a tree.", maximum=LONGEST),
        Column("brand", pa.string(), "National, or Private for the retailer's own.", allowed=("National", "Private")),
        Column("product_category", pa.string(), "Middle of the hierarchy.", maximum=LONGEST),
        Column("product_type", pa.string(), "Bottom of the hierarchy.", maximum=LONGEST),
        Column("package_size", pa.string(), "Size as printed, in no agreed unit.", maximum=LONGEST),
        UPDATED_AT,
    ),
)

STORES = Table(
    name="stores",
    description="A store of the retailer. Read whole each time: a store that closes disappears.",
    location="public.stores",
    disposition="replace",
    key=("store_id",),
    freshness=timedelta(hours=36),
    floor=0.9,
    columns=(Column("store_id", pa.int64(), "Store.", nullable=False), UPDATED_AT),
)

SOURCE = Source(
    name="crm",
    description="The retailer's customer relationship database.",
    owner="customer-data",
    kind="postgres",
    settings=("GRANARY_CRM_URL",),
    open_reader=lambda settings: DatabaseReader(settings["GRANARY_CRM_URL"]),
    tables=(HOUSEHOLDS, PRODUCTS, STORES),
)
