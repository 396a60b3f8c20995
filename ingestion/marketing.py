"""Marketing: a JSON API with campaigns, and for each the households that it reached and its coupons."""

from datetime import datetime, timedelta, timezone

import pyarrow as pa

from granary.readers.rest import Api, ApiKey, Cursor, Endpoint, Parent, RestReader, Since
from granary.sources.spec import Column, Source, Table

PAGES = Cursor("next_page_token", "page_token", size=("page_size", 5000))
BY_CAMPAIGN = Parent(Endpoint("/v1/campaigns", pagination=PAGES), key="campaign_id", version="updated_at")

FIRST, LAST = datetime(2000, 1, 1, tzinfo=timezone.utc), datetime(2100, 1, 1, tzinfo=timezone.utc)

CAMPAIGN_ID = Column("campaign_id", pa.int64(), "Campaign.", nullable=False)

CAMPAIGNS = Table(
    name="campaigns",
    description="A marketing campaign and its window.",
    location="/v1/campaigns",
    disposition="merge",
    key=("campaign_id",),
    cursor="updated_at",
    freshness=timedelta(days=40),
    columns=(
        CAMPAIGN_ID,
        Column("campaign_type", pa.string(), "Type A, B or C.", nullable=False, allowed=("Type A", "Type B", "Type C")),
        Column(
            "start_date",
            pa.date32(),
            "First day of the window.",
            nullable=False,
            minimum=FIRST.date(),
            maximum=LAST.date(),
        ),
        Column(
            "end_date",
            pa.date32(),
            "Last day of the window.",
            nullable=False,
            minimum=FIRST.date(),
            maximum=LAST.date(),
        ),
        Column(
            "updated_at",
            pa.timestamp("us", tz="UTC"),
            "When the campaign last changed.",
            nullable=False,
            minimum=FIRST,
            maximum=LAST,
        ),
    ),
)

RECIPIENTS = Table(
    name="recipients",
    description="A household that a campaign contacted. One collection per campaign.",
    location="/v1/campaigns/{campaign_id}/recipients",
    disposition="replace_unit",
    freshness=timedelta(days=40),
    columns=(
        CAMPAIGN_ID,
        Column(
            "household_id",
            pa.int64(),
            "Household contacted.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
    ),
)

COUPONS = Table(
    name="coupons",
    description="A product that a campaign's coupon is good for. One collection per campaign; rows may repeat.",
    location="/v1/campaigns/{campaign_id}/coupons",
    disposition="replace_unit",
    freshness=timedelta(days=40),
    columns=(
        CAMPAIGN_ID,
        Column("coupon_upc", pa.int64(), "Code of the coupon.", nullable=False),
        Column("product_id", pa.int64(), "Product that it is good for.", nullable=False),
    ),
)

SOURCE = Source(
    name="marketing",
    description="The campaign tool's JSON API: a key, pages and a rate limit.",
    owner="marketing",
    kind="api",
    settings=("GRANARY_MARKETING_URL", "GRANARY_MARKETING_KEY"),
    open_reader=lambda settings: RestReader(
        Api(settings["GRANARY_MARKETING_URL"], auth=ApiKey("X-Api-Key", settings["GRANARY_MARKETING_KEY"])),
        Endpoint(CAMPAIGNS.location, pagination=PAGES, since=Since("updated_since")),
        Endpoint(RECIPIENTS.location, pagination=PAGES, parent=BY_CAMPAIGN),
        Endpoint(COUPONS.location, pagination=PAGES, parent=BY_CAMPAIGN),
    ),
    tables=(CAMPAIGNS, RECIPIENTS, COUPONS),
)
