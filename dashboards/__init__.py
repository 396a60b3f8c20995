"""The pages, in the order of the navigation; the first is the one that opens."""

from __future__ import annotations

from dashboards import campaigns, categories, health, households, overview, promotions, stores
from granary.pages.dashboard import operation

PAGES = (
    overview.PAGE,
    stores.PAGE,
    categories.PAGE,
    households.PAGE,
    campaigns.PAGE,
    promotions.PAGE,
    health.PAGE,
    operation.PAGE,
)
