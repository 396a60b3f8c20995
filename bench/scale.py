"""What history costs: the same steps at 1, 4 and 16 times the sample, one table and one picture.

    python -m bench scale [--factors 1,4,16] [--promotions 0.1] [--households 500]
    python -m bench scale --report [--into docs/engine/scale.md]

Each factor has a warehouse of its own, in `GRANARY_HOME`/scale, that is thrown away once its steps are done. What has
been measured is in `results.json` beside it: a run that was interrupted goes on where it was. A step that was cut short
is measured anew: a load or a first build from the beginning, any other on the next day or the same dates.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import scale_report, scale_steps
from demo.scale import scale_of
from granary.cli import output
from granary.warehouse import server
from granary.warehouse.settings import Settings, home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.copies import Scale

Results = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    factors: tuple[int, ...]
    promotions: float
    households: int | None
    years: int | None

    def scale(self, factor: int) -> Scale:
        """Return the scale of a factor."""
        return scale_of(factor, self.years if factor > 1 else None, self.promotions)


class Bench:
    """The results so far, kept in a file, and the work that is left."""

    def __init__(self, folder: Path, asked: Asked) -> None:
        self.folder, self.asked, self.path = folder, asked, folder / "results.json"
        self.results: Results = json.loads(self.path.read_text()) if self.path.exists() else {"asked": None}
        said = json.loads(json.dumps(asdict(asked) | {"factors": None}))
        if self.results["asked"] not in (None, said):
            sys.exit(f"bench scale: {self.path} is of {self.results['asked']}; delete {folder} to measure {said}")
        self.results |= {"asked": said}

    def steps(self, factor: int) -> Results:
        """Return the steps that were measured at a factor, by name."""
        found: Results = self.results.setdefault("factors", {}).setdefault(str(factor), {}).setdefault("steps", {})
        return found

    def begin(self, factor: int, step: str | None) -> None:
        """Remember that a step is being measured; None: it is done."""
        self.results["factors"][str(factor)]["begun"] = step
        self.folder.mkdir(parents=True, exist_ok=True)
        neighbour = self.path.with_suffix(".tmp")
        neighbour.write_text(json.dumps(self.results, indent=1) + "\n")
        neighbour.replace(self.path)

    def run(self) -> None:
        """Measure what has not been measured."""
        for factor in self.asked.factors:
            done = self.steps(factor)
            if left := [step for step in scale_steps.STEPS if step not in done]:
                self._factor(factor, left)

    def _factor(self, factor: int, left: list[str]) -> None:
        place = self.folder / f"{factor}x"
        begun = self.results["factors"][str(factor)].get("begun")
        if begun in scale_steps.ONCE or not place.exists():
            self.steps(factor).clear()
            left = list(scale_steps.STEPS)
            discard(place)
        with warehouse(place) as settings:
            site = scale_steps.Site(settings, place, self.asked.scale(factor), self.asked.households)
            site.prepare()
            if begun and begun not in scale_steps.ONCE:
                output.line(f"{factor}x: {begun} was interrupted; first the warehouse is brought up to date")
                site.granary("run", "--json")
            for step in left:
                self._say(factor, step)
                self.begin(factor, step)
                self.steps(factor)[step] = asdict(scale_steps.STEPS[step](site))
                self.begin(factor, None)
        discard(place)

    def _say(self, factor: int, step: str) -> None:
        names = [(f, name) for f in self.asked.factors for name in scale_steps.STEPS]
        waiting = [(f, name) for f, name in names if name not in self.steps(f)]
        left = [self._guess(f, name) for f, name in waiting]
        known = [seconds for seconds in left if seconds is not None]
        eta = f"about {timedelta(seconds=round(sum(known)))} left" if len(known) == len(left) else ""
        output.line(f"{len(names) - len(waiting) + 1} of {len(names)}: {factor}x, {step}  {eta}".rstrip())

    def _guess(self, factor: int, step: str) -> float | None:
        """Return the seconds that a step may take: what it took at the nearest factor, as often as it grows."""
        seen = [
            (int(f), found["steps"][step]) for f, found in self.results["factors"].items() if step in found["steps"]
        ]
        if not seen:
            return None
        nearest, found = min(seen, key=lambda pair: abs(pair[0] - factor))
        grows = factor / nearest if step in scale_steps.GROWING else 1.0
        return float(found["seconds"]) * grows


@contextmanager
def warehouse(place: Path) -> Iterator[Settings]:
    """Have a warehouse in a place; it is stopped at the end, and stays."""
    before = dict(os.environ)
    os.environ["GRANARY_HOME"] = str(place / "home")
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    settings = Settings.load()
    try:
        yield settings
    finally:
        if settings.home.exists():
            server.down(settings)
        os.environ.clear()
        os.environ.update(before)


def discard(place: Path) -> None:
    """Stop the server in a place, and throw the place away."""
    with warehouse(place):
        pass
    shutil.rmtree(place, ignore_errors=True)


def main(arguments: list[str]) -> None:
    """Measure, print the table and write the picture; or only these two."""
    parser = argparse.ArgumentParser(prog="python -m bench scale", description="What history costs.")
    parser.add_argument("--factors", default="1,4,16", help="how many times the sample, in this order")
    parser.add_argument("--promotions", type=float, default=1.0, metavar="SHARE", help="of promotions, 0 to 1")
    parser.add_argument("--households", type=int, metavar="ID", help="only those with an id up to this")
    parser.add_argument("--years", type=int, help="how much of each factor but 1 is by years")
    parser.add_argument("--report", action="store_true", help="measure nothing; report what was measured")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="write table and picture into this page, too")
    chosen = parser.parse_args(arguments)
    folder = home_folder() / "scale"
    if not chosen.report:
        factors = tuple(int(text) for text in chosen.factors.split(","))
        began = time.monotonic()
        Bench(folder, Asked(factors, chosen.promotions, chosen.households, chosen.years)).run()
        output.line(f"Measured in {timedelta(seconds=round(time.monotonic() - began))}; results: {folder}/results.json")
    scale_report.report(folder, chosen.into)
