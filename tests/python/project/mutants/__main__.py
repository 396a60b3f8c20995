"""`make mutants`: faults are planted in what systems deliver, and edits made in the models; which test catches each?

Every fault comes with one more day of the sample retailer, every edit is built with all that follows from it. Said is
what catches each first: the load, a unit test, the build, an audit, publishing, a data test. Exits with 1 if less than
95 % are caught. An edit that changes no row of any model makes no difference here, and counts neither way.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

from demo import retailer
from granary.cli import output as terminal
from granary.warehouse import server
from granary.warehouse.settings import Settings
from tests.python.project.histories.__main__ import opened
from tests.python.project.histories.proof import Proof, beginning
from tests.python.project.mutants.data import Deliveries, faults
from tests.python.project.mutants.models import SURVIVED, VARIANT, Models
from tests.python.support.proofs import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.python.project.mutants.models import Verdict

UNTIL = date(2017, 6, 30)
"""The day until which the retailer's year has passed."""
HOUSEHOLDS = 40
GOAL = 0.95
"""The share of mutants that are to be caught."""


def main(words: Sequence[str]) -> int:
    """Plant, edit, show what caught what, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--edits", type=int, default=12, help="how many of each model, at most (default 12)")
    parser.add_argument("--seed", type=int, default=1, help="of their choice (default 1)")
    parser.add_argument("--only", default="", help="only mutants with this in their line, such as the name of a model")
    chosen = parser.parse_args(words)
    found: list[tuple[str, Verdict]] = []
    tests: list[str] = []
    with own_folder("mutants") as base:
        os.environ["GRANARY_HOME"] = str(base / "home")
        settings = Settings.load()
        try:
            server.up(settings)
            print("building, and recording what dbt sends ...", file=sys.stderr, flush=True)
            proof = half_a_year(settings, base / "target")
            models = Models(proof.builds, {name: proof.columns[name] for name in proof.names})
            tests = [test.name for test in models.tests]
            edited = [mutant for mutant in models.mutants(chosen.edits, chosen.seed) if chosen.only in str(mutant)]
            judge(edited, models.verdict, found)
            models.prove_nothing_is_left()
            planted = [fault for fault in faults() if chosen.only in str(fault)]
            if planted:
                judge(planted, Deliveries(proof).verdict, found)
        except KeyboardInterrupt:
            show(found, tests)
            print("broken off: this is what was found until then", file=sys.stderr)
            return 130
        finally:
            server.down(settings)
    return show(found, tests)


def half_a_year(settings: Settings, target: Path) -> Proof:
    """Open the retailer, let half of its year pass, and build everything."""
    pipeline = opened(settings, target, HOUSEHOLDS)
    proof = beginning(pipeline, {})
    retailer.advance(settings, UNTIL)
    pipeline.load()
    proof.builds.build(VARIANT)
    proof.keep()
    return proof


def judge(mutants: Sequence[object], verdict: Callable[..., Verdict], found: list[tuple[str, Verdict]]) -> None:
    """Add what catches each to what was found, and say so and how far it is."""
    began = time.monotonic()
    for number, mutant in enumerate(mutants, start=1):
        said = verdict(mutant)
        found.append((str(mutant), said))
        passed = time.monotonic() - began
        left = passed / number * (len(mutants) - number)
        place = f"{number} of {len(mutants)}, ETA {left / 60:,.0f} min"
        print(f"{place}: {mutant}: {said.by} {said.name}".rstrip(), file=sys.stderr, flush=True)


def show(found: Iterable[tuple[str, Verdict]], tests: Sequence[str]) -> int:
    """Print what caught what, and which of the data tests caught nothing; return the exit code."""
    found = list(found)
    rows = [(line, verdict.by, verdict.name) for line, verdict in found]
    terminal.table("Mutants", ("mutant", "caught by", "name"), rows)
    by = Counter(verdict.by for _, verdict in found)
    terminal.table("Caught first by", ("", "mutants"), [(name, str(count)) for name, count in by.most_common()])
    idle = sorted(test for test in tests if not any(verdict.names(test) for _, verdict in found))
    terminal.table(
        f"{len(idle)} of {len(tests)} data tests caught nothing, first or beside another",
        ("test",),
        [(test,) for test in idle],
    )
    caught = sum(verdict.is_caught for _, verdict in found)
    counted = caught + by[SURVIVED]
    score = caught / counted if counted else 1.0
    print(f"{caught} of {counted} caught: {score:.1%} (goal {GOAL:.0%})")
    return 0 if score >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
