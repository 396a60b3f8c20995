"""Who was forgotten after a backup was made stays forgotten: the list lies beside the backups, and is applied again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from granary.backup import catalog
from granary.backup.config import destination, load
from granary.privacy import forget, suppression_list
from granary.privacy.suppression_list import Entry
from granary.tiering import needed, restore
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from granary.readers.files.destination import Destination
    from granary.warehouse.settings import Settings


def store(settings: Settings, place: Destination) -> bool:
    """Store who is forgotten, if the list there lacks anybody; return whether it did.

    Two that do so at once take turns: what one has read there, the other one has not added to meanwhile.
    """
    with connect(settings) as connection:
        suppression_list.enlist(settings, connection)  # an erasure may have been killed before it did
    with locked(suppression_list.folder(settings) / "stored.lock", "storing the list of erasures"):
        mine = _listed(settings)
        there = catalog.read(place, catalog.ERASURES_FILE) or b""
        joined = b"".join(line + b"\n" for line in dict.fromkeys([*there.splitlines(), *mine.splitlines()]))
        if joined == there:
            return False
        catalog.write(place, catalog.ERASURES_FILE, joined)
        return True


def tell_backups(settings: Settings) -> str:
    """Store who is forgotten at the destination of backup.yml at once, if it has backups of this warehouse.

    Returns:
        Why it could not be, '' if it was or nothing calls for it. The next backup, and each round of `granary serve`,
        stores it as well: until then it is lost with this machine.
    """
    try:
        config = load()
        if not config.to:
            return ""
        place = destination(settings, config)
        owner = catalog.owner(place)
        if owner is None:
            return ""  # the first backup has the list
        mark = settings.home / server.BACKED_UP
        if not mark.exists() or owner.home != mark.read_text().strip():
            todo = "if that one is gone for good: `granary backup --take-over`"
            raise GranaryError("it has the backups of another home of this warehouse", place.place, todo)
        store(settings, place)
    except GranaryError as error:
        return (
            f"The backups do not know of it yet: {error}. The next `granary backup` tells them; until then a restore"
            " after the loss of this machine would bring them back."
        )
    return ""


def fetch(settings: Settings, place: Destination) -> None:
    """Have the list of a home be complete by what lies beside the backups."""
    lines = (catalog.read(place, catalog.ERASURES_FILE) or b"").decode().splitlines()
    if lines:
        suppression_list.add(settings, [Entry(**json.loads(line)) for line in lines])


def hand_on(settings: Settings, other: Settings) -> None:
    """Have another home know whom this one knows as forgotten, and the key by which they are known, if it has one."""
    suppression_list.add(other, suppression_list.entries(settings))
    if key := suppression_list.key_of(settings):
        suppression_list.keep_key(other, key)


def pending(settings: Settings) -> int:
    """Return how many are on the list whom a warehouse does not know as forgotten."""
    listed = {entry.subject for entry in suppression_list.entries(settings)}
    with connect(settings) as connection:
        rows = query(connection, "select subject from ops.erasures where finished_at is not null")
    return len(listed - {str(row[0]) for row in rows})


def forget_again(settings: Settings, aside: Settings) -> int:
    """Erase whom a restored warehouse still has and the lists say to be forgotten; return how many these are.

    Raises:
        GranaryError: the key that identifies them is not here, or the marts do not follow.
    """
    hand_on(settings, aside)
    wanted = pending(aside)
    listed = None
    if wanted:
        server.prepare(aside)  # a backup may be of an earlier version
        with connect(aside, role="eraser") as connection:
            listed = suppression_list.suppressed(connection, aside)
    with connect(aside) as connection:
        has_archives = query(connection, "select to_regclass('ops.archives') is not null") == [(True,)]
    if has_archives:
        restore.bring_back_for(aside, listed.has if listed else None, settings)
    if wanted:

        def build(aside: Settings) -> None:
            needed.built(aside, forget.publish, keys=settings)

        if not forget.forget(aside, None, build=build).finished:
            raise GranaryError("not all who were forgotten could be erased again", str(aside.home), "see its log")
    return wanted


def _listed(settings: Settings) -> bytes:
    path = suppression_list.folder(settings) / "list.jsonl"
    return path.read_bytes() if path.exists() else b""
