"""Whether each cause becomes one incident that names it, and whether a year without faults is quiet.

    python -m bench alerts [clean | faults] [--promotions 0.1]

The sample's year is played day by day (`bench/alerts_replay.py`), once as it is, and once with the faults of
`bench/alerts_faults.py`, one after the other. A fault is found if an incident is opened before the next one is planted;
every incident until then is counted as its own.
"""

from __future__ import annotations

import argparse
import sys
import time as stopwatch
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bench.alerts_faults import FAULTS, Fault
from bench.alerts_replay import EVENING, MORNING, Found, Replay
from bench.alerts_report import picture, print_clean, print_faults
from demo import retailer
from granary.cli import output
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRST, LAST = date(2017, 2, 8), date(2017, 12, 31)
"""The first day with a fault: the weeks before are what is usual. The last day of the sample."""
APART = timedelta(days=5)
DAY, MOMENT = timedelta(days=1), timedelta(seconds=1)
PARTS = ("clean", "faults")


@dataclass
class Planted:
    """A fault that was planted: on which day, when somebody could know of it, and which incidents came of it."""

    fault: Fault
    day: date
    known: datetime
    found: list[Found] = field(default_factory=list)
    closed: bool = False

    def __str__(self) -> str:
        """Return what was said of it."""
        said = ", ".join(f"{one.cause} ({'+'.join(one.kinds)}, {one.at:%d %b %H:%M})" for one in self.found)
        return f"{self.day:%d %b}, {self.fault.cause}: {said or 'nothing'}"

    @property
    def is_one(self) -> bool:
        """Whether exactly one incident was opened."""
        return len(self.found) == 1

    @property
    def is_right(self) -> bool:
        """Whether the first incident names the cause."""
        return bool(self.found) and self.found[0].cause == self.fault.cause

    @property
    def seconds(self) -> float:
        """How long after somebody could know the first incident was there."""
        first = self.found[0]
        return max(0.0, (first.at - self.known).total_seconds()) + first.seconds


def main(words: Sequence[str]) -> None:
    """Play the year with the faults or without; the warehouse is that of GRANARY_HOME."""
    parser = argparse.ArgumentParser(prog="python -m bench alerts", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--promotions", type=float, default=1.0, help="the share of the products whose promotions come")
    parser.add_argument("--since", type=date.fromisoformat, help="the first day; those before are loaded at once")
    parser.add_argument("--until", type=date.fromisoformat, default=LAST, help="the last day")
    parser.add_argument("--picture", type=Path, help="a file for what became of the faults, as SVG")
    chosen = parser.parse_args(words)
    replay = Replay(Settings.load())
    replay.open(chosen.promotions)
    began = stopwatch.perf_counter()
    with retailer.systems(replay.settings):
        if chosen.since:
            replay.deliver(chosen.since - DAY)
            replay.run()
        if chosen.part == "clean":
            print_clean(list(clean(replay, chosen.until)), stopwatch.perf_counter() - began)
            return
        found = list(planted(replay, chosen.until))
        print_faults(found, stopwatch.perf_counter() - began)
    if chosen.picture:
        picture(found, chosen.picture)


def clean(replay: Replay, until: date) -> Iterator[tuple[date, Found]]:
    """Play the year as it is; yield the incidents that are opened, and the day that was delivered before."""
    while replay.day < until:
        replay.deliver(replay.day + DAY)
        replay.polls = False
        for one in (*replay.run(), *replay.later(replay.moment(replay.day, EVENING))):
            yield replay.day, one


def planted(replay: Replay, until: date) -> Iterator[Planted]:
    """Play the year and plant a fault every few days; yield each with what came of it, when the next one is due."""
    waiting, last, due = list(FAULTS), None, FIRST
    with ExitStack() as there:
        while replay.day < until:
            if last and replay.day >= last.day + last.fault.days * DAY - DAY:
                there.close()
            replay.deliver(replay.day + DAY)
            fault = next((one for one in waiting if one.on(replay)), None) if replay.day >= due else None
            if fault:
                if last:
                    yield settled(replay, last)
                waiting.remove(fault)
                there.enter_context(fault.plant(replay))
                last, due = Planted(fault, replay.day, replay.at + fault.known), replay.day + APART
            replay.polls = bool(last) and replay.day <= last.day + last.fault.days * DAY  # type: ignore[union-attr]
            found = replay.run()
            if last and last.day == replay.day:
                last.known = max(last.known, replay.ended)
            evening = replay.moment(replay.day, EVENING)
            for at in sorted({evening, *([last.known + MOMENT] if last else [])}):
                if replay.ended < at < replay.moment(replay.day + DAY, MORNING):
                    found += replay.later(at)
            if last:
                numbers = {one.incident_id for one in last.found}
                last.found += [one for one in found if one.incident_id not in numbers]
            else:
                for one in found:
                    output.line(f"before any fault: {replay.day} {one.cause}: {one.title}")
        there.close()
    if last:
        yield settled(replay, last)


def settled(replay: Replay, one: Planted) -> Planted:
    """Note whether what came of a fault is over, now that it has been repaired for days."""
    one.closed = not set(replay.open_causes()) & {found.cause for found in one.found}
    print(f"{one.day} {one.fault.kind}: {one}", file=sys.stderr, flush=True)
    return one


if __name__ == "__main__":
    main(sys.argv[1:])
