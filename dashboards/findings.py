"""What the rows of a chart say, in a sentence: each function takes the rows that a page opens with."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.pages.dashboard.parts import Found

    Finding = Callable[[Found], str | None]


def summed(rows: Found, name: str, measure: str) -> dict[Any, float]:
    """Return the sum of a measure by the values of a column, the largest first."""
    found: dict[Any, float] = defaultdict(float)
    for row in rows:
        if row[name] is not None:
            found[row[name]] += row[measure] or 0
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def added(rows: Found, measure: str) -> float:
    """Return the sum of a measure."""
    return sum(row[measure] or 0 for row in rows)


def percent(part: float, whole: float) -> str:
    """Return a share as text; of nothing it is 0 %."""
    return f"{100 * part / whole if whole else 0:.1f}%"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 mart, 2 marts, no mart."""
    return f"{number or 'No'} {one if number in (0, 1) else many or f'{one}s'}"


def leads(name: str, measure: str, sentence: str) -> Finding:
    """Return a finding of who is first and with which share of all: `{first}` and `{share}` in the sentence."""

    def find(rows: Found) -> str | None:
        sums = summed(rows, name, measure)
        first = next(iter(sums), None)
        whole = sum(sums.values())
        return sentence.format(first=first, share=percent(sums[first], whole)) if first is not None and whole else None

    return find


def share(above: str, below: str, sentence: str) -> Finding:
    """Return a finding of two sums divided: `{share}` in the sentence."""

    def find(rows: Found) -> str | None:
        whole = added(rows, below)
        return sentence.format(share=percent(added(rows, above), whole)) if whole else None

    return find


# -- overview ------------------------------------------------------------------------------------------------


def daily_sales(rows: Found) -> str | None:
    """Compare the last 28 days with the 28 before."""
    means = [row["rolling_28d_per_day"] for row in rows if row["rolling_28d_per_day"]]
    if len(means) <= 28:  # noqa: PLR2004 - days
        return None
    moved = 100 * (means[-1] / means[-29] - 1)
    return f"${means[-1]:,.0f} a day in the last 28 days, {abs(moved):.1f}% {_more(moved)} than in the 28 before"


def _more(moved: float) -> str:
    return "more" if moved >= 0 else "less"


def weekdays(rows: Found) -> str | None:
    """Say on which day of the week most and least is sold."""
    sales, days = summed(rows, "day_name", "sales"), summed(rows, "day_name", "trading_days")
    rates = sorted((sales[name] / days[name], name) for name in sales if days[name])
    return f"{rates[-1][1]} sells most, {rates[0][1]} least" if len(rates) > 1 else None


# -- stores --------------------------------------------------------------------------------------------------


def largest_stores(rows: Found) -> str | None:
    """Say what the twenty largest stores make of all sales."""
    sales = list(summed(rows, "store", "sales").values())
    return f"The 20 largest of {len(sales)} stores make {percent(sum(sales[:20]), sum(sales))} of sales"


def changes(rows: Found) -> str | None:
    """Say how many of the twenty largest stores gained."""
    moved = [row["sales_change_rate"] for row in rows[:20] if row["sales_change_rate"] is not None]
    gained = sum(rate > 0 for rate in moved)
    return f"{gained} of the {len(moved)} largest stores sold more in the last 28 days than in the 28 before"


def multiples(rows: Found) -> str | None:
    """Say how many of the largest stores sold more in the last month than in the first."""
    stores: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        stores[row["store"]].append(row["sales"] or 0)
    more = sum(sales[-1] > sales[0] for sales in stores.values())
    return f"{more} of the {len(stores)} largest stores sold more in the last month than in the first"


def store_baskets(rows: Found) -> str | None:
    """Say how few baskets most stores have."""
    baskets = summed(rows, "store", "baskets").values()
    return f"Half of the {len(baskets)} stores have at most {median(baskets):,.0f} baskets"


def concentration(rows: Found) -> str | None:
    """Say how many stores make half of the sales."""
    half = next((row["sales_rank"] for row in rows if row["cumulative_share"] >= 0.5), None)  # noqa: PLR2004 - half
    return f"{half} of {len(rows)} stores make half of the sales" if half else None


# -- categories ----------------------------------------------------------------------------------------------


def department_peaks(rows: Found) -> str | None:
    """Say which of the ten largest departments had the most unusual week."""
    largest = list(summed(rows, "department", "sales"))[:10]
    peak = max((row for row in rows if row["department"] in largest), key=lambda row: row["sales_index"] or 0)
    return (
        f"Of the ten largest departments {peak['department']} rises most: {peak['sales_index']:.1f} times its mean in"
        f" the week of {peak['week_start']}"
    )


def best_week(rows: Found) -> str | None:
    """Say which week sold most."""
    week, sales = next(iter(summed(rows, "week_start", "sales").items()))
    return f"The week of {week} sold most: ${sales:,.0f}"


def few_products(rows: Found) -> str | None:
    """Say which share of the products is class A."""
    top = max((row["product_share"] for row in rows if row["abc_class"] == "A"), default=None)
    return f"{100 * top:.0f}% of the products make 80% of the sales" if top else None


def pairs(rows: Found) -> str | None:
    """Name the pair with the highest lift."""
    first = max(rows, key=lambda row: row["lift"] or 0)
    return f"{first['pair']}: together {first['lift']:.1f} times as often as by chance"


# -- households ----------------------------------------------------------------------------------------------


def cohorts(rows: Found) -> str | None:
    """Say which share of the cohorts after the first shops again a month later."""
    first = min(row["cohort"] for row in rows)
    later = [row for row in rows if row["months_since_first"] == 1 and row["cohort"] != first]
    again, size = added(later, "active_households"), added(later, "cohort_size")
    return f"{percent(again, size)} of new households shop again in the month after" if size else None


def tenths(rows: Found) -> str | None:
    """Say what the best tenth buys."""
    best = next((row for row in rows if row["tenth"] == 1), None)
    return f"The best tenth of the households makes {100 * best['sales_share']:.0f}% of the sales" if best else None


# -- campaigns -----------------------------------------------------------------------------------------------


def effects(rows: Found) -> str | None:
    """Say how many campaigns moved sales."""
    judged, clear = int(added(rows, "judged")), int(added(rows, "clear_of_zero"))
    return f"{counted(clear, 'campaign')} of {judged} that can be judged clearly moved sales" if judged else None


def rates(rows: Found) -> str | None:
    """Name the campaign with the highest redemption rate."""
    first = max(rows, key=lambda row: row["redemption_rate"] or 0)
    return f"Campaign {first['campaign']} was redeemed most: by {100 * (first['redemption_rate'] or 0):.1f}%"


def timeline(rows: Found) -> str | None:
    """Say how many campaigns ran at once at most."""
    days = {str(row["start_date"]) for row in rows}
    most = max(sum(str(row["start_date"]) <= day <= str(row["end_date"]) for row in rows) for day in days)
    return f"Up to {most} campaigns ran at the same time"


# -- promotions ----------------------------------------------------------------------------------------------


def discounts(rows: Found) -> str | None:
    """Compare the loyalty discount on and off promotion."""
    given, regular = summed(rows, "promotion", "loyalty_discount"), summed(rows, "promotion", "regular_value")
    if not regular.get("on") or not regular.get("off"):
        return None
    on, off = (percent(given[name], regular[name]) for name in ("on", "off"))
    return f"Promoted goods are cheaper, too: {on} off, other goods {off}"


def placements(rows: Found) -> str | None:
    """Name the placement with most sales among the real ones."""
    real = [row for row in rows if not (row["display"].startswith("Not on") and row["mailer"].startswith("Not on"))]
    if not real:
        return None
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for row in real:
        sums[row["display"], row["mailer"]] += row["sales"] or 0
    display, mailer = max(sums, key=lambda place: sums[place])
    return f"Most promoted sales: display “{display.lower()}”, mailer “{mailer.lower()}”"


def lift_products(rows: Found) -> str | None:
    """Say how many of the products that sell most on promotion at least double their sales."""
    top = sorted(rows, key=lambda row: -(row["on_sales"] or 0))[:20]
    double = sum((row["lift"] or 0) >= 2 for row in top)  # noqa: PLR2004 - twice
    return f"{double} of the {len(top)} products that sell most on promotion sell at least twice as much on it"


# -- data health ---------------------------------------------------------------------------------------------


def reconciled(rows: Found) -> str | None:
    """Say whether all marts agree with the receipts."""
    differing = int(added(rows, "differing"))
    return f"{counted(differing, 'mart differs', 'marts differ')} from the receipts, of {len(rows)}"


def covered(rows: Found) -> str | None:
    """Say how many days have no sales."""
    without = int(added(rows, "days_without_sales"))
    return f"{counted(without, 'day has', 'days have')} no sales" if without else "Every day has sales"


def restated(rows: Found) -> str | None:
    """Say how many closed months changed."""
    months = {row["month"] for row in rows}
    return f"{counted(len(months), 'closed month')} changed" if months else None
