"""Whether the numbers can be trusted today; how they are made is on the engine's page of operation.

The record of closed months is in the schema `ops`, which analysts do not read; the page reads what it shows of it as
the role `transformer`, counts and times only.
"""

from __future__ import annotations

from dashboards import findings
from dashboards.shared import COUNT, bars
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Page, key, total, value

PAGE = Page(
    name="health",
    title="Data health",
    lead="Whether the numbers are whole, and whether closed months stayed as they were. Times are UTC.",
    datasets=(
        Dataset("coverage"),
        Dataset("reconciliation"),
        Dataset("restatements", role="transformer", needs="ops.restatements"),
    ),
    figures=(
        Figure("Marts that differ from the receipts", "reconciliation", total("differing", "", "count")),
        Figure("Days without sales", "coverage", total("days_without_sales", "", "count")),
    ),
    charts=(
        Chart(
            "reconciled",
            "Do the marts agree with the receipts?",
            "Sales of each mart in dollars, and how far they are from those of the receipts. The"
            " difference must be 0.00.",
            "reconciliation",
            (
                key("mart", "Mart"),
                value("sales", "Sales", "cents"),
                value("receipt_sales", "Receipts", "cents"),
                value("difference", "Difference", "cents"),
            ),
            None,
            finding=findings.reconciled,
        ),
        Chart(
            "covered",
            "Are all days there?",
            "Days with sales in each month. On 2017-12-25 the stores were closed.",
            "coverage",
            (
                key("month", "Month"),
                value("days_with_sales", "Days with sales", "count"),
                value("days_in_month", "Days of the month", "count"),
                value("days_without_sales", "Without", "count"),
            ),
            bars("month", "Month", "days_with_sales", "Days with sales", COUNT, step=22),
            finding=findings.covered,
        ),
        Chart(
            "restated",
            "Closed months that changed",
            "What was published of a month that people took for final, and has changed since.",
            "restatements",
            (
                key("published_at", "Published at"),
                key("mart", "Mart"),
                key("month", "Month"),
                value("row_difference", "Rows", "count"),
                value("rows_inserted", "New or changed", "count"),
                value("rows_deleted", "Gone or changed", "count"),
                value("differences", "Sums, since less before", "text"),
                value("is_by_erasure", "By erasure", "text"),
            ),
            None,
            wide=True,
            empty="No closed month has changed, or no publish is recorded yet.",
            finding=findings.restated,
        ),
    ),
)
