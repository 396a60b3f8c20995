"""From one major version of Postgres to the next: the embedded server's data, by `pg_upgrade`, with a way back.

The new cluster is made beside the old one and takes its place when it is whole, so whatever ends this leaves the one or
the other, and the next call goes on. Files are copied unless links are asked for; the old cluster then stays as
`data.OLD`, and `back` takes it up again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse import cluster, server
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.layout import Layout, plan
from granary.warehouse.settings import OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

TRUST = "local all all trust\n"
"""Who may come in while pg_upgrade is at it: on a socket in a folder that only the server's user may enter."""
HOURS = 24 * 3600
"""How long pg_upgrade may take; it copies at the pace of the disk."""
KEPT = re.compile(r"data\.(\d+)")
LINKS_BYTES = 300 * server.MIB
"""What a new cluster takes besides the rows: its catalog and its first log."""


@dataclass(frozen=True)
class Upgraded:
    """From and to which major version, in how many seconds, and where the old cluster is kept, if it is."""

    before: int
    after: int
    seconds: float
    kept: Path | None


def upgrade(settings: Settings, old: Path, *, link: bool = False) -> Upgraded | None:
    """Bring the data to the version of the installed server, and start it; None if they are of it already.

    Args:
        settings: the warehouse, embedded. A server that is up is stopped.
        old: where the Postgres is that the data are of: a folder that has bin/postgres somewhere in it, such as the
            `.venv` of an earlier release.
        link: share files with the old cluster instead of copying them: seconds, no space, and no way back.

    Raises:
        GranaryError: there is no such Postgres, no space, or pg_upgrade refuses (its own words are in the error).
    """
    began = time.monotonic()
    with _alone(settings) as layout:
        after = cluster.version_of(layout)
        _finish(layout)
        before = cluster.version_there(layout)
        if before == after:
            return None
        if before is None:
            raise GranaryError("there is no warehouse", str(layout.data), "`granary up` makes one")
        there = _found(layout, old, before)
        if server.postmaster(layout):
            there.command("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(layout.data))
        _carry_over(layout, there, link=link)
        fault_point("cluster-upgraded")
        kept = _swap(layout, before, link=link)
    server.up(settings)
    # What the optimizer knows was carried over, but for statistics that people have declared.
    command = ["vacuumdb", "--all", "--analyze-in-stages", "--missing-stats-only", f"--username={OWNER}"]
    command[0] = str(plan(settings.home).binaries / "bin" / "vacuumdb")
    subprocess.run([*command, f"--host={settings.host}"], check=False, capture_output=True)
    return Upgraded(before, after, time.monotonic() - began, kept)


def back(settings: Settings) -> tuple[int, Path]:
    """Take the cluster up again that an upgrade has kept.

    Returns:
        Its major version, of which the engine has to be that starts it; and where what was written since is kept.

    Raises:
        GranaryError: none was kept.
    """
    with _alone(settings) as layout:
        kept = _kept(layout)
        now = cluster.version_there(layout)
        if not kept or now is None:
            todo = "restore a backup from before the upgrade"
            raise GranaryError("no cluster of an earlier version was kept", str(layout.root), todo)
        if server.postmaster(layout):
            layout.command("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(layout.data))
        aside = layout.root / f"data.{now}.left"
        shutil.rmtree(aside, ignore_errors=True)
        layout.data.rename(aside)
        kept[max(kept)].rename(layout.data)
        return max(kept), aside


@contextmanager
def _alone(settings: Settings) -> Iterator[Layout]:
    """Let one process at a time work on the server's files, and nobody start it meanwhile."""
    if settings.external:
        raise GranaryError("an external server is upgraded by who runs it", settings.host, "unset PGHOST")
    with server.locked_home(settings.home):
        yield plan(settings.home)


def _finish(layout: Layout) -> None:
    """Go on where an upgrade was ended: between the two renames, or after it had made links."""
    if not layout.data.exists() and cluster.is_whole(layout):
        (layout.root / cluster.BUILDING).rename(layout.data)
    control = layout.data / "global" / "pg_control"
    if not control.exists() and control.with_name("pg_control.old").exists():
        control.with_name("pg_control.old").rename(control)  # the new cluster was never started
    for path in _kept(layout).values():
        if not (path / "global" / "pg_control").exists():  # it shares its files with the new one
            shutil.rmtree(path)


def _kept(layout: Layout) -> dict[int, Path]:
    """Return the clusters that upgrades have put aside, by their versions."""
    return {int(name[1]): path for path in layout.root.iterdir() if (name := KEPT.fullmatch(path.name))}


def _found(layout: Layout, old: Path, version: int) -> Layout:
    """Return the layout of the same home with the Postgres that its data are of, where the server's user can run it."""
    place = old.expanduser().absolute()
    for program in sorted(place.rglob("bin/postgres")):
        binaries = program.parents[1]
        there = replace(layout, binaries=binaries)
        try:
            found = cluster.version_of(there)
        except PermissionError:  # the unprivileged user of root's server does not get there
            copy = layout.root / f"postgres-{version}"
            shutil.copytree(binaries, copy, dirs_exist_ok=True)
            there = replace(layout, binaries=copy)
            found = cluster.version_of(there)
        if found == version:
            return there
    raise GranaryError(
        f"there is no Postgres {version}", str(place), "name the .venv of the release that made the data"
    )


def _carry_over(layout: Layout, old: Layout, *, link: bool) -> None:
    """Make a cluster of the new version with all that is in the old one, which is stopped."""
    size = sum(path.stat().st_size for path in layout.data.rglob("*") if path.is_file() and not path.is_symlink())
    needed = LINKS_BYTES + (0 if link else size)
    if (free := shutil.disk_usage(layout.root).free) < needed:
        what = f"{free // server.MIB} MB are free and {needed // server.MIB} MB are needed"
        raise GranaryError(what, str(layout.root), "make room, or use --link, which has no way back")
    control = old.command("pg_controldata", str(layout.data)).stdout
    sums = "--no-data-checksums" if re.search(r"checksum version: +0", control) else "--data-checksums"
    building = cluster.initdb(layout, sums, auth="trust")
    rules = layout.data / "pg_hba.conf"
    rules.write_text(TRUST)  # what was there is written again at each start
    layout.give(rules)
    # It writes where it is started, which its user may do in the folder of the socket.
    done = replace(layout, root=layout.run).command(
        "pg_upgrade",
        f"--old-bindir={old.binaries / 'bin'}",
        f"--new-bindir={layout.binaries / 'bin'}",
        f"--old-datadir={layout.data}",
        f"--new-datadir={building}",
        f"--socketdir={layout.run}",
        f"--username={OWNER}",
        "--link" if link else "--copy",
        check=False,
        timeout=HOURS,
    )
    (layout.run / "delete_old_cluster.sh").unlink(missing_ok=True)
    if done.returncode:
        words = " ".join(line.strip() for line in done.stdout.splitlines() if line.strip())[-400:]
        raise GranaryError(f"pg_upgrade refuses: {words}", str(building / "pg_upgrade_output.d"), "see its logs")
    (building / cluster.WHOLE).touch()
    layout.give(building / cluster.WHOLE)


def _swap(layout: Layout, before: int, *, link: bool) -> Path | None:
    """Put the new cluster in the place of the old one; return where that one is now, if it can be used again."""
    kept = layout.root / f"data.{before}"
    shutil.rmtree(kept, ignore_errors=True)
    layout.data.rename(kept)
    fault_point("cluster-put-aside")
    (layout.root / cluster.BUILDING).rename(layout.data)
    if link:
        shutil.rmtree(kept)
        return None
    return kept
