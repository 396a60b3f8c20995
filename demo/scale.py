"""`python -m demo.scale N`: open the sample retailer with N times the rows of the real year.

    GRANARY_HOME=/somewhere python -m demo.scale 16 [--years 4] [--promotions 0.1] [--households 500]

N is copies of the households and stores times years: 4 is two by two, 16 four by four, unless --years says otherwise.
The deliveries are written day by day, so memory does not grow with N; the clock stays before the first day, as ever.
Promotions are 20.9 million rows a time: a share plays back those of a share of the products.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter

from demo import retailer
from demo.copies import Scale
from demo.progress import Step
from granary.cli import output
from granary.cli.progress import deliveries
from granary.warehouse import server
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings


def scale_of(factor: int, years: int | None = None, promotions: float = 1.0) -> Scale:
    """Return so many times the sample: as many years as asked for, else the most that do not exceed the copies.

    Raises:
        GranaryError: the years do not divide the factor.
    """
    if factor < 1 or (years is not None and (years < 1 or factor % years)):
        raise GranaryError(f"{factor} times the sample cannot be {years} years of it", todo="let the years divide it")
    years = years or max(n for n in range(1, math.isqrt(factor) + 1) if factor % n == 0)
    return Scale(factor // years, years, promotions)


def main(arguments: list[str] | None = None) -> None:
    """Open the retailer in GRANARY_HOME, and print what it will deliver."""
    parser = argparse.ArgumentParser(prog="python -m demo.scale", description="Many times the sample retailer.")
    parser.add_argument("factor", type=int, metavar="N", help="how many times the rows of the sample")
    parser.add_argument("--years", type=int, help="how many of it by years; the rest by households and stores")
    parser.add_argument("--promotions", type=float, default=1.0, metavar="SHARE", help="of promotions, 0 to 1")
    parser.add_argument("--households", type=int, metavar="ID", help="only those with an id up to this, as the sample")
    chosen = parser.parse_args(arguments)
    began, rows, files = time.monotonic(), Counter[str](), Counter[str]()
    try:
        scale = scale_of(chosen.factor, chosen.years, chosen.promotions)
        settings = Settings.load()
        server.up(settings)
        with deliveries("the retailer opens") as progress:

            def step(done: Step) -> None:
                name = f"{done.system}.{done.item.split('/')[1]}" if "/" in done.item else f"{done.system}.{done.item}"
                rows[name] += done.rows
                files[name] += 1
                progress(done)

            retailer.open_for_business(settings, chosen.households, step, scale)
    except GranaryError as error:
        parser.exit(1, f"demo.scale: {error}\n")
    output.table(
        f"{scale.factor} times the sample: {scale.copies} of its households and stores, {scale.years} of its years,"
        f" to {scale.last_day}; {scale.promotions:.0%} of the promotions",
        ("system and table", "files", "rows"),
        [(name, files[name], count) for name, count in rows.items()],
    )
    output.line(f"{sum(rows.values()):,} rows in {time.monotonic() - began:.0f} s, in {settings.home}.")


if __name__ == "__main__":
    main()
