"""Whether the numbers can be trusted today.

The records of loads and audits are in the schema `ops`, which analysts do not read; the page reads what
it shows of them as the role `transformer`, counts and times only.
"""

from __future__ import annotations

from dashboards import findings
from dashboards.shared import COUNT, bars
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Page, key, ratio, total, value

PAGE = Page(
    name="health",
    title="Data health",
    lead="Whether the numbers are whole, recent and proved. Times are UTC.",
    datasets=(
        Dataset("coverage"),
        Dataset("reconciliation"),
        Dataset("loads", role="transformer", needs="ops.load_health"),
        Dataset("audits", role="transformer", needs="ops.model_audits"),
        Dataset("restatements", role="transformer", needs="ops.restatements"),
    ),
    figures=(
        Figure("Marts that differ from the receipts", "reconciliation", total("differing", "", "count")),
        Figure("Source tables whose last load failed", "loads", total("failing", "", "count")),
        Figure("Rows in quarantine, ever", "loads", total("rows_quarantined", "", "count")),
        Figure("Audit tests passed", "audits", total("passed", "", "count")),
        Figure("Audit tests failed", "audits", total("failing", "", "count")),
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
            "loaded",
            "What became of the sources' rows",
            "Rows now in use, and rows refused, by source table; the last good load in UTC.",
            "loads",
            (
                key("source_table", "Source table"),
                value("last_status", "Last load", "text"),
                value("last_good_at", "Last good load", "text"),
                value("active_rows", "Rows in use", "count"),
                value("rows_quarantined", "Quarantined", "count"),
                value("quarantined_share", "Share quarantined", "percent"),
                value("failed_loads", "Failed loads, ever", "count"),
            ),
            None,
            wide=True,
            empty="No load is recorded here.",
            finding=findings.loaded,
        ),
        Chart(
            "audited",
            "What the last audit of each mart proved",
            "A mart becomes visible only if all its tests pass in the transaction that builds it.",
            "audits",
            (
                key("mart", "Mart"),
                total("tests", "Tests", "count"),
                total("failing", "Failing", "count"),
                ratio("failing_rate", "Share failing", "percent", "failing", "tests"),
                value("audited_at", "Audited at", "text"),
            ),
            None,
            empty="No audit is recorded here.",
            finding=findings.audited,
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
