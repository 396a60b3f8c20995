"""Bring the twin from the publish that it has to the one that is shown.

Each publish becomes a snapshot of its own, in one commit of the catalogue: whoever reads sees one publish or another.
What changed between two is known from what publishes keep (`publish_history`), so only those partitions, or rows of
those keys, are written. Whatever cannot be followed so (somebody was forgotten, masks or rights are others, a backup
was restored, a file is missing) has both copies made anew beside the old ones, whose place they then take at once.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.twin import catalog, duck, ledger
from granary.twin.copies import COPIES, Copy
from granary.twin.writing import StaleError, Writer
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.filelock import locked
from granary.warehouse.published import erasures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.twin.catalog import Label
    from granary.twin.config import Config
    from granary.twin.ledger import Ledger
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

MEMORY = "1GB"
KEEP = """
    insert into ops.twin_state as known (copy, publish_id, refused, seen_at) values ($1, $2, $3::jsonb, now())
    on conflict (copy) do update set
        publish_id = excluded.publish_id, refused = excluded.refused, seen_at = excluded.seen_at
"""
TRIES = 5
"""How often a sync begins again since something was published meanwhile."""
LOCK_SECONDS = 600


@dataclass(frozen=True)
class Synced:
    """What a sync did: the publish that the twin is at, how many it followed, and whether it was made anew and why.

    `refused` are marts that are not in it, with the reason.
    """

    publish: int | None
    followed: int
    anew: str
    refused: dict[str, str]


def sync(settings: Settings, config: Config, *, anew: bool = False, say: Callable[[str], None] | None = None) -> Synced:
    """Bring the twin to the publish that is shown; one process at a time.

    Args:
        settings: the warehouse.
        config: how the project wants its twin.
        anew: make it anew whatever it has.
        say: called with why it is made anew.

    Raises:
        GranaryError: another process has been at it for too long, or the disk or the server refuses something.
    """
    try:
        config.place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GranaryError(f"the twin's folder cannot be made: {error.strerror}", str(config.place)) from None
    with locked(config.place / "lock", "writing the twin of the marts", LOCK_SECONDS):
        for again in range(TRIES):
            try:
                return _sync(settings, config, anew=anew, say=say or (lambda _: None))
            except StaleError:
                if again == TRIES - 1:
                    raise GranaryError(
                        "the marts are published more quickly than their twin is written",
                        str(config.place),
                        "run `granary twin sync` when no build is at work",
                    ) from None
    raise AssertionError


def is_due(settings: Settings) -> bool:
    """Return whether the ledger has something that the twin has not: a few look-ups."""
    with connect(settings, role="transformer") as connection:
        line = ledger.line(connection)
        forgotten = erasures(connection)
        known = [catalog.labels(connection, copy.catalog)[-1:] for copy in COPIES]
    is_at = line and (line[-1].number, forgotten)
    return bool(line) and any(not one or (one[0].event, one[0].erasures) != is_at for one in known)


def drop(settings: Settings, config: Config) -> None:
    """Take the twin away: its catalogues and its files."""
    with (
        locked(config.place / "lock", "writing the twin of the marts", LOCK_SECONDS),
        connect(settings, role="transformer") as connection,
    ):
        catalog.clear(connection, config, everything=True)
        execute(connection, "delete from ops.twin_state")
        connection.commit()


def _sync(settings: Settings, config: Config, *, anew: bool, say: Callable[[str], None]) -> Synced:
    with connect(settings, role="transformer") as connection:
        catalog.clear(connection, config)
        execute(connection, "set transaction isolation level repeatable read")
        known = ledger.read(connection)
        if not known.line:
            return Synced(None, 0, "", {})
        why = "it was asked for" if anew else _why_anew(connection, config, known)
        connection.commit()
        at_work = _AtWork(settings, connection, config, known)
        with at_work:
            if why:
                say(f"the twin is made anew: {why}")
                followed = at_work.make_anew()
            else:
                followed = max(at_work.follow(copy) for copy in COPIES)
            at_work.give_up()
        last = [catalog.labels(connection, copy.catalog)[-1] for copy in COPIES]
        for copy, label in zip(COPIES, last, strict=True):
            execute(connection, KEEP, copy.catalog, label.event, json.dumps(dict(label.refused)))
        connection.commit()
    refused = {name: reason for one in last for name, reason in one.refused.items()}
    return Synced(last[0].event, followed, why, refused)


def _why_anew(connection: Connection, config: Config, known: Ledger) -> str:
    """Return why the twin cannot be followed on, empty if it can."""
    for copy in COPIES:
        labels = catalog.labels(connection, copy.catalog)
        if not labels:
            return "there is none yet"
        if not catalog.is_whole(connection, copy, config):
            return "its files are not those of its catalogue"
        if labels[-1].event > known.line[-1].number:
            return "the ledger is at an earlier publish: it was restored"
        if labels[-1].erasures != known.erasures:
            return "somebody was forgotten since"
        for label in labels:
            if (label.shows in known.kept or label.event == known.line[-1].number) and (
                why := _differs(known, copy, label)
            ):
                return why
    return ""


def _differs(known: Ledger, copy: Copy, label: Label) -> str:
    """Return what of a publish that a copy has the ledger tells otherwise now, empty if nothing."""
    for mart in known.state(label.shows):
        mark = label.marts.get(mart.name)
        holds = any(copy == one for one, _ in mart.copies())
        if holds != (mark is not None or mart.name in label.refused):
            return f"{mart.name} is for other readers now"
        if mark and mark.shape != mart.mark.shape:
            return f"{mart.name} has other columns, masks or readers"
        if mark and mark != mart.mark:
            return f"what publish {label.shows} left in {mart.name} is another now"
    return ""


class _AtWork:
    """A sync at work: one session of DuckDB, begun when something is to be written."""

    def __init__(self, settings: Settings, connection: Connection, config: Config, known: Ledger) -> None:
        self.settings, self.connection, self.config, self.known = settings, connection, config, known
        self.stack = ExitStack()
        self.engine: Any = None

    def __enter__(self) -> None:
        self.stack.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        return self.stack.__exit__(*raised)

    def follow(self, copy: Copy) -> int:
        """Follow in one copy what was published since; return how many publishes that was."""
        last = catalog.labels(self.connection, copy.catalog)[-1]
        self.connection.commit()
        ahead = [one for one in self.known.line if one.number > last.event]
        if ahead:
            with self.writer(copy, copy.catalog) as writer:
                writer.follow(self.known, ahead, last)
        return len(ahead)

    def make_anew(self) -> int:
        """Make both copies with all publishes that are kept, and put them in the place of those there are."""
        numbers = [int(one.name.rpartition("-")[2]) for one in self.config.place.glob("*-[0-9]*")]
        for copy in COPIES:
            place = catalog.make_folder(self.config, copy, max(numbers, default=0) + 1)
            with self.writer(copy, copy.new, data_path=f"{place}/") as writer:
                writer.follow(self.known, self.known.line, None)
            catalog.admit(self.connection, copy.new, copy)
            self.connection.commit()
        fault_point("twin-before-switch")
        catalog.take_place(self.connection)
        self.connection.commit()
        fault_point("twin-after-switch")
        catalog.clear(self.connection, self.config)
        return len(self.known.line)

    def give_up(self) -> None:
        """Let go of publishes that are not kept any more, and of files that only they had; put small ones together."""
        for copy in COPIES:
            labels = catalog.labels(self.connection, copy.catalog)
            there = catalog.snapshots(self.connection, copy.catalog)
            wanted = {one.snapshot for one in labels if one.event == one.shows and one.event in self.known.kept}
            wanted |= {labels[-1].snapshot, there[-1]}
            gone = [one for one in there if one not in wanted]
            is_crowded = catalog.is_crowded(self.connection, copy.catalog)
            self.connection.commit()
            if gone or is_crowded:
                with self.writer(copy, copy.catalog) as writer:
                    writer.give_up(gone, is_crowded=is_crowded)

    @contextmanager
    def writer(self, copy: Copy, schema: str, **options: object) -> Iterator[Writer]:
        """Yield what writes a copy, whose catalogue is in this schema."""
        if self.engine is None:
            self.engine = self.stack.enter_context(duck.session(self.settings, self.config.place / "spill", MEMORY))
            duck.attach_warehouse(self.engine, self.settings, "transformer", "warehouse")
        options["data_inlining_row_limit"] = 0
        duck.attach_twin(self.engine, self.settings, "transformer", schema, "twin", **options)
        yield Writer(self.engine, self.connection, copy, schema)
        self.engine.execute("detach twin")
        if place := catalog.folder(self.connection, schema):
            catalog.set_modes(place, self.config, copy)
        self.connection.commit()
