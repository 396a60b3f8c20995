"""Erases a data subject from everything that the warehouse keeps, by one call; the order of the steps is here alone.

1. Files of archived raw rows that have them are written anew without them.
2. One transaction takes them out of raw tables, snapshots, quarantine and profiles, and has the ledger name the new
   files (`granary.privacy.forget`).
3. The list of who is forgotten goes beside the backups, so that no restore brings them back. The old files are removed.
4. Marts are built, audited and published. Archived rows that this needs come back for it, and move again afterwards.
5. The columnar twin follows.
6. Deliveries take back what waits in them; they and exports that still have rows are named.

Each step finds out by itself what is left to do: after a kill, the same call, or `forget(settings)`, finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.backup import erasures
from granary.deliver.records import forgotten
from granary.lake.records import exports
from granary.privacy import forget as privacy
from granary.tiering import needed, restore, run
from granary.tiering.without import ArchivedRows
from granary.twin import config, follower
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.privacy.erasure import Total
    from granary.privacy.forget import Outcome
    from granary.privacy.identity import Identity
    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class Erased:
    """What an erasure did, and what others have to do.

    `exports` (mart, place) have rows until they are purged, `deliveries` (name, target) until they run again.
    `not_stored` says why the backups do not know of it yet; the next backup tells them.
    """

    outcome: Outcome
    exports: tuple[tuple[str, str], ...]
    deliveries: tuple[tuple[str, str], ...]
    not_stored: str = ""


def look(settings: Settings, identity: Identity) -> tuple[Total, ...]:
    """Return what `forget` would take out of raw and marts; nothing is changed.

    Raises:
        GranaryError: the warehouse has nothing of them.
    """
    return privacy.look(settings, identity, ArchivedRows(settings, dry_run=True))


def forget(
    settings: Settings,
    identity: Identity | None = None,
    *,
    reason: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Erased:
    """Forget somebody, and finish what earlier erasures have left; with None only that.

    Args:
        settings: a warehouse that is up.
        identity: who, as `granary.privacy.identity.identify` returns it.
        reason: kept on record; it is to name nobody.
        say: told what takes long or could not be done.

    Raises:
        GranaryError: the warehouse has nothing of them and has not forgotten them, a file of the archive cannot be
            read, written or removed, or the build of the marts failed. Where rows are gone by then, it says so, and
            the call is to be made again.
    """
    problems: list[str] = []
    failures: list[GranaryError] = []
    back: list[str] = []

    def listed() -> None:
        if problem := erasures.tell_backups(settings):
            problems.append(problem)
            say(problem)
        try:
            restore.forget_files(settings)
        except GranaryError as error:
            failures.append(error)  # the marts follow all the same

    def build(settings: Settings) -> None:
        back.extend(needed.built(settings, privacy.publish, say=say))

    archive = ArchivedRows(settings, say=say)
    outcome = privacy.forget(settings, identity, reason=reason, build=build, archive=archive, listed=listed)
    failures += run.moved_again(settings, sorted(set(back)), say)
    if config.is_wanted():
        follower.follow(settings, say)
    done = Erased(
        outcome,
        tuple((one.mart, one.place) for one in exports(settings) if one.stale),
        tuple(forgotten(settings)),
        "".join(problems),
    )
    if failures:
        raise failures[0]
    return done
