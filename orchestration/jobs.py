"""The jobs of this business, beside `everything` and `full_refresh`, which every project has."""

from __future__ import annotations

from granary.dagster.jobs import Assets, Job, job


def jobs(assets: Assets) -> list[Job]:
    """Return the jobs over these assets."""
    promotions = assets.tables("pos", "promotions")
    crm = assets.tables("crm")
    return [
        job(
            "daily",
            assets.everything - assets.only_from(promotions),
            "One business day: its sales and redemptions, changes of the CRM and of marketing, and all that follows.",
        ),
        job(
            "weekly_promotions",
            promotions | promotions.downstream() | assets.published,
            "The week's promotions, and all that follows.",
        ),
        job(
            "crm_snapshots",
            crm | (assets.snapshots & crm.downstream()).upstream(),
            "What the CRM says now, kept as history.",
        ),
    ]
