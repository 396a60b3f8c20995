"""The drill: a source changes, its loaders are disrupted until one comes through, and the rows are counted."""

from __future__ import annotations

import resource
import shutil
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tests.python.engine.chaos.check import compare, ledger_faults
from tests.python.engine.chaos.disruptions import (
    Bench,
    Disruption,
    at_point,
    at_random,
    backend_killed,
    disk_full,
    network_cut,
    server_killed,
    two_loaders,
    two_loaders_one_killed,
)
from tests.python.engine.chaos.kinds import KINDS
from tests.python.engine.chaos.kinds.restore import DESTROYED, data_destroyed
from tests.python.engine.chaos.world import forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.engine.chaos.world import World

IN_A_ROW = 10
"""Disruptions of a round at most, before a load is left in peace."""
PATIENCE = 5
"""A disruption may miss, since the loader was through before: so many tries for each run that is wanted."""

SERVER: dict[str, Disruption] = {
    "backend killed": backend_killed,
    "server killed": server_killed,
    "network cut": network_cut,
    **({"disk full": disk_full} if hasattr(resource, "prlimit") else {}),
}
"""Disruptions that need a Postgres of the harness's own, which they may break."""
EVERYWHERE: dict[str, Disruption] = {
    "at random": at_random,
    "two loaders": two_loaders,
    "two, one killed": two_loaders_one_killed,
    **SERVER,
}
"""Disruptions of every kind of source."""
DISRUPTIONS: dict[str, Disruption] = {**EVERYWHERE, DESTROYED: data_destroyed}
"""What the table calls a disruption -> the disruption; every other name is that of a named point."""


@dataclass
class Cell:
    """What one kind of disruption did to one kind of source: disruptions that hit, and what was wrong afterwards.

    A disruption is counted when its round has ended and the rows were compared.
    """

    runs: int = 0
    lost: int = 0
    double: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every row was there exactly once, and the ledger told the truth at every moment."""
        return not (self.lost or self.double or self.faults)


def drill(
    kind: str,
    settings: Settings,
    folder: Path,
    wanted: dict[str, int],
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
    sabotage: Callable[[], None] | None = None,
    enough: Callable[[], bool] = lambda: False,
    cells: dict[str, Cell] | None = None,
) -> dict[str, Cell]:
    """Disrupt a kind of source and return what was found.

    Args:
        kind: its name in `KINDS`.
        settings: the warehouse; everything of the kind's source in it is forgotten.
        folder: where its sources live.
        wanted: name of a disruption -> how often it is to hit.
        seed: of everything that is random, but for the time that the machine takes.
        progress: called after each disruption.
        sabotage: run in each loader process first: what makes a loader bad.
        enough: asked after each round; the drill ends early if it says so.
        cells: where to count, if what was counted is wanted after an error, too.
    """
    random = Random(f"{kind} {seed}")
    bench = Bench(settings, random, sabotage)
    cells = {} if cells is None else cells
    cells |= {name: Cell() for name in wanted}
    names = [name for name, runs in wanted.items() for _ in range(runs)]
    random.shuffle(names)
    tries = {name: PATIENCE * runs for name, runs in wanted.items()}
    try:
        while names:
            for hit, world in _life(kind, bench, folder, cells, names, tries, progress):
                if enough():
                    names.clear()
                if not _check(bench, world, [cells[name] for name in hit]):
                    break  # a wrong table would be found wrong again
    finally:
        bench.hang_up()
    return cells


def _life(
    kind: str,
    bench: Bench,
    folder: Path,
    cells: dict[str, Cell],
    names: list[str],
    tries: dict[str, int],
    progress: Callable[[], None],
) -> Iterator[tuple[list[str], World]]:
    """Let a source change some times; yield after each change that has landed, with what hit it on the way."""
    place = folder / kind.replace(" ", "-").replace(",", "")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    world = KINDS[kind](bench.settings, place, bench.random)
    try:
        forget(bench.connection, world.source.name)
        for number in range(world.rounds):
            world.advance()
            hit: list[str] = []
            for _ in range(bench.random.randint(1, IN_A_ROW)):
                name = _next(names, [] if number else world.first, world.first if number else [])
                if name is None or not bench.seconds:
                    break
                disrupt = DISRUPTIONS.get(name) or at_point(name)
                if not disrupt(bench, world.loader):
                    tries[name] -= 1
                    if tries[name] <= 0:
                        names[:] = [other for other in names if other != name]
                    break
                names.remove(name)
                hit.append(name)
                progress()
                cells[name].faults += ledger_faults(bench.connection, world.source.name, world.tables)
            world.settle()
            outcome = bench.unharmed(world.loader)
            if not hit:
                bench.learn(outcome)
            yield hit, world
            if not names:
                return
    finally:
        world.close()


def _next(names: list[str], liked: Sequence[str], barred: Sequence[str]) -> str | None:
    """Return the next disruption: what is possible only now before all others, what is impossible now not at all."""
    possible = [name for name in names if name not in barred]
    return next((name for name in possible if name in liked), possible[0] if possible else None)


def _check(bench: Bench, world: World, hit: list[Cell]) -> bool:
    """Compare what landed with the truth, and blame what hit it for what is wrong; return whether all is well."""
    found = compare(world.truth(), world.landed(bench.connection))
    faults = [*ledger_faults(bench.connection, world.source.name, world.tables), *bench.complaints]
    bench.complaints.clear()
    if not hit and (faults or not found.none):
        raise AssertionError(f"without any disruption: {found.words} {faults}")
    for cell in hit:
        cell.runs += 1
    for cell in {id(cell): cell for cell in hit}.values():
        cell.lost += found.lost
        cell.double += found.double
        cell.faults += [*faults, *([found.words] if found.words else [])]
    return found.none and not faults
