"""What campaigns move."""

from __future__ import annotations

import altair as alt

from dashboards import findings
from dashboards.shared import COUNT, MONEY, PERCENT, bars
from granary.pages.dashboard.days import day_tooltip
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value
from granary.pages.dashboard.theme import BLUE, GREEN, GREY, ORANGE

TYPES = alt.Color(
    "campaign_type:N",
    title="Type",
    scale=alt.Scale(domain=["Type A", "Type B", "Type C"], range=[BLUE, ORANGE, GREEN]),
)
NAME = alt.Y("campaign:N", sort=None, title="Campaign")


def _timeline(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_bar(height=10, cornerRadius=3)
        .encode(
            x=alt.X(
                "start_date:T",
                title=None,
                scale=alt.Scale(type="utc"),
                axis=alt.Axis(format="%b %y", tickCount=6, labelOverlap=True),
            ),
            x2="end_date:T",
            y=alt.Y("campaign:N", sort=alt.EncodingSortField("start_date", op="min"), title="Campaign"),
            color=TYPES,
            tooltip=[
                alt.Tooltip("campaign:N", title="Campaign"),
                alt.Tooltip("campaign_type:N", title="Type"),
                day_tooltip("start_date", "From"),
                day_tooltip("end_date", "To"),
                alt.Tooltip("contacts:Q", title="Contacts", format=COUNT),
                alt.Tooltip("coupons:Q", title="Coupons", format=COUNT),
            ],
        )
        .properties(height=alt.Step(17))
    )


def _rates(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X("redemption_rate:Q", title="Redemption rate", axis=alt.Axis(format=".0%")),
            y=NAME,
            color=TYPES,
            tooltip=[
                alt.Tooltip("campaign:N", title="Campaign"),
                alt.Tooltip("contacts:Q", title="Contacts", format=COUNT),
                alt.Tooltip("redeeming:Q", title="Redeeming", format=COUNT),
                alt.Tooltip("redemption_rate:Q", title="Redemption rate", format=PERCENT),
            ],
        )
        .properties(height=alt.Step(17))
    )


def _effects(base: alt.Chart) -> alt.LayerChart:
    told = [
        alt.Tooltip("campaign:N", title="Campaign"),
        alt.Tooltip("effect:Q", title="Effect", format=MONEY),
        alt.Tooltip("effect_low:Q", title="From", format=MONEY),
        alt.Tooltip("effect_high:Q", title="To", format=MONEY),
        alt.Tooltip("finding:N", title="Finding"),
    ]
    zero = base.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=alt.datum(0))
    interval = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("effect_low:Q", title="Dollars per contacted household", axis=alt.Axis(format="$,.0f", tickCount=5)),
        x2="effect_high:Q",
        y=NAME,
        color=TYPES,
        tooltip=told,
    )
    point = base.mark_point(size=80, opacity=1).encode(x="effect:Q", y=NAME, color=TYPES, tooltip=told)
    return alt.layer(zero, interval, point).properties(height=alt.Step(17))


PAGE = Page(
    name="campaigns",
    title="Campaigns",
    lead="Whom campaigns reached, what was redeemed, and whether households bought more than they would have anyway.",
    datasets=(Dataset("campaigns"), Dataset("attribution"), Dataset("coupons")),
    filters=(Filter("campaign_type", "Type of campaign", "All types", "attribution"),),
    figures=(
        Figure("Campaigns", "campaigns", total("campaigns", "", "count")),
        Figure("Contacts", "campaigns", total("contacts", "", "count"), note="households, once for each campaign"),
        Figure("Redemption rate", "campaigns", ratio("redemption_rate", "", "percent", "redeeming", "contacts")),
        Figure("Redemptions", "campaigns", total("redemptions", "", "count")),
        Figure(
            "Could be judged", "campaigns", total("judged", "", "count"), note="campaigns with earlier days to match"
        ),
        Figure("Moved sales clearly", "campaigns", total("clear_of_zero", "", "count"), note="campaigns, of those"),
        Figure(
            "Traced to a receipt",
            "attribution",
            ratio("traced_share", "", "percent", "traced", "redemptions"),
            note="of the redemptions",
        ),
    ),
    charts=(
        Chart(
            "effects",
            "What campaigns moved, against matched households that were not contacted",
            "Dollars per contacted household in the campaign's window, with the 95 % interval. Where it"
            " crosses zero, the"
            " campaign cannot be told from none. A campaign without a line cannot be judged: the table says why.",
            "campaigns",
            (
                key("campaign", "Campaign"),
                value("campaign_type", "Type", "text"),
                value("contacts", "Contacts", "count"),
                value("effect", "Effect", "cents"),
                value("effect_low", "From", "cents"),
                value("effect_high", "To", "cents"),
                value("finding", "Finding", "text"),
            ),
            _effects,
            finding=findings.effects,
        ),
        Chart(
            "rates",
            "Which share of the contacted households redeemed a coupon",
            "Percent of the contacted households.",
            "campaigns",
            (
                key("campaign", "Campaign"),
                value("campaign_type", "Type", "text"),
                value("contacts", "Contacts", "count"),
                value("redeeming", "Redeeming", "count"),
                value("redemption_rate", "Redemption rate", "percent"),
                value("redemptions", "Redemptions", "count"),
            ),
            _rates,
            finding=findings.rates,
        ),
        Chart(
            "timeline",
            "When campaigns ran",
            "From the first to the last day.",
            "campaigns",
            (
                key("campaign", "Campaign"),
                value("campaign_type", "Type", "text"),
                value("start_date", "From", "text"),
                value("end_date", "To", "text"),
                value("contacts", "Contacts", "count"),
                value("coupons", "Coupons", "count"),
                value("products", "Products", "count"),
            ),
            _timeline,
            finding=findings.timeline,
        ),
        Chart(
            "top-coupons",
            "The coupons that were redeemed most",
            "Redemptions, by coupon in its campaign.",
            "coupons",
            (
                key("coupon", "Coupon"),
                total("redemptions", "Redemptions", "count"),
                value("households", "Households", "count"),
                value("redemption_rate", "Rate of the contacted", "percent"),
                value("products", "Products", "count"),
            ),
            bars("coupon", "Coupon", "redemptions", "Redemptions", COUNT, step=22),
            order="redemptions",
            limit=15,
            finding=findings.leads(
                "coupon", "redemptions", "Coupon {first} was redeemed most: {share} of the redemptions"
            ),
        ),
        Chart(
            "traces",
            "Can redemptions be found on a receipt?",
            "Redemptions by outcome of the search.",
            "attribution",
            (key("attribution", "Outcome"), total("redemptions", "Redemptions", "count")),
            bars("attribution", "Outcome", "redemptions", "Redemptions", COUNT, step=32),
            order="redemptions",
            finding=findings.share("traced", "redemptions", "{share} of the redemptions are found on a receipt"),
        ),
    ),
)
