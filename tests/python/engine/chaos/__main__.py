"""`make chaos`: loaders of every kind of source are disrupted by the hundred, and the rows that landed are counted.

It works on servers and in folders of its own, which it removes. Exits with 1 if a row was lost or double, or the
ledger wrong at any moment.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from granary.cli import output as terminal
from granary.warehouse import server
from granary.warehouse.settings import Settings
from tests.python.engine.chaos.drill import EVERYWHERE, Cell, drill
from tests.python.engine.chaos.kinds import KINDS
from tests.python.engine.chaos.kinds.restore import SECONDS
from tests.python.support.proofs import own_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("kind", "disruption", "runs", "lost", "double", "ledger wrong")
RUNS = 210
TEAM = 4
"""Kinds that are disrupted side by side: some wait for their source more than they work."""

Table = dict[str, dict[str, Cell]]
"""Kind -> disruption -> what it did."""


def main(words: Sequence[str]) -> int:
    """Disrupt, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    usual = [name for name, kind in KINDS.items() if not kind.apart]
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=usual, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--runs", type=int, default=RUNS, help=f"kills of loaders per kind (default {RUNS})")
    parser.add_argument("--seed", type=int, default=2017, help="of everything that is random but time (default 2017)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    chosen = parser.parse_args(words)
    began = time.monotonic()
    with own_folder("chaos") as base:
        found = disrupt(base, chosen.kinds, chosen.runs, chosen.seed)
    show(found, f"Seed {chosen.seed}, {time.monotonic() - began:,.0f} s", markdown=chosen.markdown)
    return 0 if all(cell.good for cells in found.values() for cell in cells.values()) else 1


def disrupt(base: Path, kinds: Sequence[str], runs: int, seed: int) -> Table:
    """Disrupt several kinds side by side, those with the most points first; each has a server of its own.

    Ctrl-C and SIGTERM let the rounds that are under way end.
    """
    enough = threading.Event()
    bars = Progress(
        TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True),
    )  # fmt: skip

    def one(kind: str) -> dict[str, Cell]:
        wanted = share(kind, runs)
        task = bars.add_task(kind, total=sum(wanted.values()))
        home = base / str(list(KINDS).index(kind))
        home.mkdir(mode=0o755)
        settings = Settings(home=home, external=False, host=str(home / "run"))
        cells: dict[str, Cell] = {}
        try:
            server.up(settings)
            progress = partial(bars.advance, task)
            drill(kind, settings, home / "sources", wanted, seed, progress, enough=enough.is_set, cells=cells)
        except Exception:  # the other kinds go on, and what was counted of this one is shown
            cells["broke off"] = Cell(faults=[traceback.format_exc()])
        finally:
            server.down(settings)
        bars.console.print(f"{kind}: {sum(cell.runs for cell in cells.values()):,} disruptions")
        return cells

    with bars, ThreadPoolExecutor(TEAM) as team:
        first = sorted(kinds, key=lambda kind: -len(KINDS[kind].points))
        under_way = {kind: team.submit(one, kind) for kind in first}
        try:
            wait(under_way.values())
        except KeyboardInterrupt:
            enough.set()
        return {kind: under_way[kind].result() for kind in kinds}


def share(kind: str, runs: int) -> dict[str, int]:
    """Return how often each disruption is to hit: the kills in equal shares, every other one a twentieth of them."""
    if own := KINDS[kind].disruptions:
        return dict.fromkeys(own, -(-runs // (4 * len(own))))
    kills = [*KINDS[kind].points, "at random"]
    others = [name for name in EVERYWHERE if name not in kills]
    return dict.fromkeys(kills, -(-runs // len(kills))) | dict.fromkeys(others, max(1, runs // 20))


def show(found: Table, title: str, *, markdown: bool) -> None:
    """Print the table, and after it the first words about each fault."""
    rows = [
        (kind, name, cell.runs, cell.lost, cell.double, len(cell.faults))
        for kind, cells in found.items()
        for name, cell in cells.items()
    ]
    kills = sum(row[2] for row in rows)
    total = ("all", "", kills, *(sum(int(row[column]) for row in rows) for column in (3, 4, 5)))
    if markdown:
        print(f"{title}:\n\n| {' | '.join(COLUMNS)} |\n| --- | --- | ---: | ---: | ---: | ---: |")
        print("\n".join(f"| {' | '.join(map(str, row))} |" for row in [*rows, total]))
    else:
        terminal.table(title, COLUMNS, [tuple(map(str, row)) for row in [*rows, total]])
    if SECONDS:
        lost, back = zip(*SECONDS, strict=True)
        print(
            f"Restored {len(SECONDS)} times: lost of the past at most {max(lost):.1f} s (median {median(lost):.1f} s);"
        )
        print(f"back after at most {max(back):.0f} s (median {median(back):.0f} s)")
    for kind, cells in found.items():
        for name, cell in cells.items():
            for fault in cell.faults[:3]:
                print(f"{kind}, {name}: {fault}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
