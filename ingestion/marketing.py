"""Marketing: a JSON API with campaigns, and for each the households that it reached and its coupons."""

from datetime import datetime, timedelta, timezone

import pyarrow as pa

from granary.readers.rest import Api, ApiKey, Cursor, Endpoint, Parent, RestReader, Since
from granary.sources.spec import Column, Source, Table

PAGES = Cursor("next_page_token", "page_token", size=("page_size", 5000))
BY_CAMPAIGN = Parent(Endpoint("/v1/campaigns", pagination=PAGES), key="campaign_id", version="updated_at")

FIRST, LAST = datetime(2000, 1, 1, tzinfo=timezone.utc), datetime(2100, 1, 1, tzinfo=timezone.utc)

CAMPAIGN_ID = Column("campaign_id", pa.int64(), "The campaign.", nullable=False)

CAMPAIGNS = Table(
    name="campaigns",
    description="One row per campaign (27).",
    location="/v1/campaigns",
    disposition="merge",
    key=("campaign_id",),
    cursor="updated_at",
    freshness=timedelta(days=40),
    columns=(
        CAMPAIGN_ID,
        Column(
            "campaign_type",
            pa.string(),
            "Type A, Type B or Type C.",
            nullable=False,
            allowed=("Type A", "Type B", "Type C"),
        ),
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
            "Last day of the window, included.",
            nullable=False,
            minimum=FIRST.date(),
            maximum=LAST.date(),
        ),
        Column(
            "updated_at",
            pa.timestamp("us", tz="UTC"),
            "Last change in the marketing system.",
            nullable=False,
            minimum=FIRST,
            maximum=LAST,
        ),
    ),
)

RECIPIENTS = Table(
    name="recipients",
    description="One row per campaign and household that was contacted (6,589).",
    location="/v1/campaigns/{campaign_id}/recipients",
    disposition="replace_unit",
    freshness=timedelta(days=40),
    columns=(
        CAMPAIGN_ID,
        Column(
            "household_id",
            pa.int64(),
            "The household.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
    ),
)

COUPONS = Table(
    name="coupons",
    description="One row per coupon line (116,204): coupon, campaign and product, of which 111,332 are distinct.",
    location="/v1/campaigns/{campaign_id}/coupons",
    disposition="replace_unit",
    freshness=timedelta(days=40),
    columns=(
        CAMPAIGN_ID,
        Column("coupon_upc", pa.int64(), "The coupon.", nullable=False),
        Column(
            "product_id",
            pa.int64(),
            "A product that the coupon is good for; 6 are not in the catalogue.",
            nullable=False,
        ),
    ),
)

SOURCE = Source(
    name="marketing",
    description=(
        "The marketing system's HTTP API: campaigns (27), read by `updated_at`, and the recipients and "
        "coupons of each, which replace their earlier selves campaign by campaign. Never edited."
    ),
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
