"""`make histories`: increments against full refreshes, over as many random histories as are asked for.

Each history plays months of the sample retailer on a warehouse and a server of its own: days in any order, corrected,
emptied and late files, other dimensions, late redemptions, erasures, windows, builds of a part. At its end, and now and
then before, every mart and intermediate is compared with a full refresh from the same raw tables, what each model hands
on with how it changed, and what people read with what was built. Exits with 1 if there was a difference; it is shown
with the least history that leads to it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from demo import retailer
from granary.cli import output as terminal
from granary.warehouse import server
from granary.warehouse.settings import Settings
from tests.python.project.histories.planted import Planted
from tests.python.project.histories.proof import Difference, History, Proof, beginning, history
from tests.python.project.pipeline.conftest import HOUSEHOLDS, Pipeline
from tests.python.support.proofs import own_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OTHER = {"campaign_strata": 2, "campaign_matching_days": 9, "affinity_min_support": 0.01, "as_of": "2017-04-01"}
"""Vars that a history may change to."""


def main(words: Sequence[str]) -> int:
    """Play histories, show what differs, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make histories", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=30, help="how many (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the first; the next has the next (default 1)")
    parser.add_argument("--length", type=int, default=8, help="steps of the longest (default 8)")
    parser.add_argument("--plant", action="store_true", help="see which wrong declarations they would catch")
    chosen = parser.parse_args(words)
    with own_folder("histories") as base:
        os.environ["GRANARY_HOME"] = str(base / "home")
        settings = Settings.load()
        try:
            server.up(settings)
            print("recording what dbt sends ...", file=sys.stderr, flush=True)
            proof = beginning(opened(settings, base / "target"), {"other": OTHER})
            planted = Planted(proof)
            if chosen.plant:
                planted.plant()
            found = play(proof, planted, range(chosen.seed, chosen.seed + chosen.count), chosen.length)
        except KeyboardInterrupt:
            return 130
        finally:
            server.down(settings)
    for seed, (steps, difference) in found.items():
        print(f"\nHistory {seed}, at least:", *(f"  {step}" for step in steps), difference, sep="\n")
    if chosen.plant:
        show(planted)
    done = f"{chosen.count} histories, {proof.builds_done} builds, {proof.refreshes_done} full refreshes"
    print(f"{done}: {len(found) or 'none'} differ")
    return 1 if found else 0


def opened(settings: Settings, target: Path, households: int = HOUSEHOLDS) -> Pipeline:
    """Open the retailer, and build everything once."""
    target.mkdir()
    pipeline = Pipeline(settings, target)
    retailer.open_for_business(settings, households=households)
    pipeline.load()
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    return pipeline


def play(proof: Proof, planted: Planted, seeds: Sequence[int], length: int) -> dict[int, tuple[History, Difference]]:
    """Play a history for each seed; return those that differ, as short as they can be."""
    found, began = {}, time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7,.0f} s  {text}", file=sys.stderr, flush=True)

    for number, seed in enumerate(seeds, start=1):
        steps = history(seed, length)
        proof.watch = partial(planted.look, seed)
        difference = proof.run(steps)
        left = (time.monotonic() - began) / number * (len(seeds) - number)
        words = f"{number} of {len(seeds)}, ETA {left / 60:,.0f} min: seed {seed}, {len(steps)} steps"
        caught = f", {len(planted.caught)} of {len(planted.faults)} faults caught" if planted.faults else ""
        say(f"{words}: {difference.what if difference else 'same'}{caught}")
        if difference:
            for step in steps:
                say(f"    {step}")
            found[seed] = proof.shrink(steps, say)
    return found


def show(planted: Planted) -> None:
    """Print which wrong declarations were caught, and by which history first."""
    rows = [
        (fault.model, fault.what, str(planted.caught.get(name, "not caught"))) for name, fault in planted.faults.items()
    ]
    terminal.table("Wrong declarations", ("model", "declaration", "caught by history"), sorted(rows))
    print(f"{len(planted.caught)} of {len(planted.faults)} caught")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
