"""What is done to loader processes, and to the server under them. Each says whether it hit."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import last_line, plan
from tests.python.engine.chaos.loader_process import Child, Outcome, aside, kill_after, run
from tests.python.support.proxy import Proxy

if TYPE_CHECKING:
    from random import Random

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings
    from tests.python.engine.chaos.loader_process import Loader
    from tests.python.support.proxy import Direction

RECOVERY_SECONDS = 60
WAYS: tuple[Direction, Direction] = ("up", "down")
CUT_BYTES = {"up": (2.5, 5.6), "down": (2.5, 4.7)}
"""After how many bytes the network is cut, as powers of ten: about what a load sends and receives."""
FULL_BYTES = (4.5, 6.0)
"""What a file of a full disk may hold, as powers of ten: up to what a load writes of a table, and of the log."""


@dataclass
class Bench:
    """What disruptions work with: a warehouse, chance, and what an unharmed load is like."""

    settings: Settings
    random: Random
    sabotage: Callable[[], None] | None = None
    passes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)
    _open: Connection | None = None

    @property
    def connection(self) -> Connection:
        """A connection for looking at the warehouse, opened once: it takes as long as a small load."""
        if self._open is None:
            self._open = connect(self.settings, autocommit=True)
        return self._open

    def hang_up(self) -> None:
        """Close the connection: its server is about to die, or the drill is over."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def learn(self, outcome: Outcome) -> None:
        """Remember how often points are passed and how long a load takes: the mean of what was, and of this."""
        for point, passes in outcome.passes.items():
            self.passes[point] = max(1, (self.passes.get(point, passes) + passes) // 2)
        self.seconds = (self.seconds + outcome.seconds) / 2 if self.seconds else outcome.seconds

    def unharmed(self, loader: Loader) -> Outcome:
        """Load to the end, which must be a good one."""
        outcome = run(loader, self.settings, sabotage=self.sabotage)
        if not outcome.done:
            self.complaints.append(f"an unharmed load failed: {outcome.error}")
        return outcome

    def moment(self) -> float:
        """Return a moment of a load, in seconds after its start."""
        return self.random.uniform(0, self.seconds)


Disruption = Callable[["Bench", "Loader"], bool]
"""What is done to a loader: returns whether it hit."""


def at_point(point: str) -> Disruption:
    """Return the disruption that kills the loader as it passes a named point: the first time, or a later one.

    A load that was through before the later one makes the next disruption at this point one at the first time.
    """

    def disrupt(bench: Bench, loader: Loader) -> bool:
        later = point not in bench.missed and bench.random.random() < 0.7
        times = bench.random.randint(1, bench.passes.get(point, 1)) if later else 1
        hit = _was_hit(bench, run(loader, bench.settings, f"{point}:{times}", bench.sabotage))
        (bench.missed.discard if hit else bench.missed.add)(point)
        return hit

    return disrupt


def at_random(bench: Bench, loader: Loader) -> bool:
    """Kill the loader at a random moment."""
    return _was_hit(bench, kill_after(loader, bench.settings, bench.moment(), bench.sabotage))


def two_loaders(bench: Bench, loader: Loader) -> bool:
    """Let two loaders begin at once: the second waits for the first, and both end well."""
    one, other = (Child(loader, bench.settings, sabotage=bench.sabotage) for _ in range(2))
    one.go()
    other.go()
    _expect_done(bench, [one.end(beside=other), other.end()])
    return True


def two_loaders_one_killed(bench: Bench, loader: Loader) -> bool:
    """Let two loaders begin at once and kill one at random: the other ends well."""
    victim, other = (Child(loader, bench.settings, sabotage=bench.sabotage) for _ in range(2))
    other.go()
    victim.go()
    if not victim.over(bench.random.uniform(0, 2 * bench.seconds)):
        victim.kill()
    hit = _was_hit(bench, victim.end())
    _expect_done(bench, [other.end()])
    return hit


def backend_killed(bench: Bench, loader: Loader) -> bool:
    """Kill the loader's own server process: Postgres drops every connection and recovers by itself."""
    return _hit_server(bench, loader, _kill_backend)


def server_killed(bench: Bench, loader: Loader) -> bool:
    """Kill the whole server, its postmaster first, and start it again."""
    return _hit_server(bench, loader, _kill_server)


def network_cut(bench: Bench, loader: Loader) -> bool:
    """Reset the connections between loader and warehouse after some bytes of either direction; then heal the network.

    The number of bytes is random in its order of magnitude, so that the first words, the rows and the last words of a
    load, such as the answer to its commit, are all cut at some time.
    """
    host, direction = bench.settings.host, bench.random.choice(WAYS)
    with Proxy(Path(host) / f".s.PGSQL.{bench.settings.port}") as proxy:
        proxy.cut_after(int(10 ** bench.random.uniform(*CUT_BYTES[direction])), direction)
        far = replace(bench.settings, external=True, host="127.0.0.1", port=proxy.port)
        outcome = Child(loader, far, sabotage=bench.sabotage).go().end()
        if outcome.killed:
            bench.complaints.append("the loader died when the network was cut")
        if not proxy.cuts:
            _expect_done(bench, [outcome])
        return proxy.cuts > 0


def disk_full(bench: Bench, loader: Loader) -> bool:
    """Let the server's files grow to a random size only: tables cannot be extended, or the log cannot be written.

    The limit is that of every process of the server, and new ones inherit it. A log that cannot be written brings the
    server down; so does recovery in its turn, until there is space again.
    """
    with connect(bench.settings, "postgres", autocommit=True) as connection:
        query(connection, "select pg_switch_wal()")  # the log is at the beginning of a file
    bench.hang_up()
    postmaster = _postmaster(bench.settings)
    child = Child(loader, bench.settings, sabotage=bench.sabotage)
    aside(limit_files, postmaster, int(10 ** bench.random.uniform(*FULL_BYTES)))
    outcome = child.go().end()
    aside(limit_files, postmaster, resource.RLIM_INFINITY)
    if outcome.killed:
        bench.complaints.append("the loader died when the disk was full")
    _recover(bench.settings)
    return not outcome.done


def limit_files(postmaster: int, size: int) -> None:
    """Limit the size of files that a server may write, now and in processes to come.

    Only the server's owner may do so, where root is not almighty.
    """
    with suppress(FileNotFoundError, ProcessLookupError):  # it is gone
        owner = os.stat(f"/proc/{postmaster}")
        if os.geteuid() == 0:
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        hard = resource.prlimit(postmaster, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(postmaster, resource.RLIMIT_FSIZE, (size, hard))
        for process in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
            with suppress(ProcessLookupError):
                resource.prlimit(int(process), resource.RLIMIT_FSIZE, (size, hard))


def _postmaster(settings: Settings) -> int:
    return int((settings.home / "data" / "postmaster.pid").read_text().split()[0])


def _hit_server(bench: Bench, loader: Loader, kill: Callable[[Settings, list[int]], None]) -> bool:
    """Kill the server at a random moment of a load, and have it back; the loader must end by itself."""
    bench.hang_up()
    with connect(bench.settings, "postgres", autocommit=True) as connection:
        child = Child(loader, bench.settings, sabotage=bench.sabotage)
        child.go()
        if child.over(bench.moment()):
            _expect_done(bench, [child.end()])
            return False
        pids = [
            int(str(pid))
            for (pid,) in query(
                connection,
                "select pid from pg_stat_activity where pid <> pg_backend_pid()"
                " order by application_name = 'granary' and datname <> 'postgres' desc, backend_start desc",
            )
        ]
        kill(bench.settings, pids)
        outcome = child.end()
    if outcome.killed:
        bench.complaints.append("the loader died when its server was killed")
    _recover(bench.settings, dead=kill is _kill_server)
    return True


def _kill_backend(settings: Settings, pids: list[int]) -> None:
    del settings
    with suppress(ProcessLookupError):
        os.kill(pids[0], signal.SIGKILL)


def _kill_server(settings: Settings, pids: list[int]) -> None:
    for pid in [_postmaster(settings), *pids]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _recover(settings: Settings, *, dead: bool = False) -> None:
    """Wait until the server is back; one that is dead, or gave up, is started."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while dead or not server.running(settings):
        try:
            if dead or not (settings.home / "data" / "postmaster.pid").exists():
                server.up(settings)
                return
        except GranaryError:  # the processes of the dead one still hold its shared memory
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the server did not recover in {RECOVERY_SECONDS} s: {last_line(plan(settings.home).log)}"
            )
        time.sleep(0.02)


def _was_hit(bench: Bench, outcome: Outcome) -> bool:
    """Return whether the loader was killed; one that was not must have ended well."""
    if outcome.killed:
        return True
    _expect_done(bench, [outcome])
    return False


def _expect_done(bench: Bench, outcomes: list[Outcome]) -> None:
    bench.complaints += [f"a loader failed: {outcome.error}" for outcome in outcomes if not outcome.done]
