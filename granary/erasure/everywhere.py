"""Erases a data subject from everything that the warehouse keeps, by one call; the order of the steps is here alone.

1. Raw tables, snapshots, quarantine, profiles and archived files, in one transaction (`granary.privacy.forget`).
2. The list of who is forgotten goes beside the backups, so that no restore brings them back.
3. Marts are built, audited and published.
4. Files that still have them are removed, and the columnar twin follows.
5. Deliveries take back what waits in them; they and exports that still have rows are named.

Each step finds out by itself what is left to do: after a kill, the same call, or `forget(settings)`, finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.backup import erasures
from granary.deliver.records import forgotten
from granary.lake.records import exports
from granary.privacy import forget as privacy
from granary.tiering import restore
from granary.twin import config, follower

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
    return privacy.look(settings, identity)


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
            read, or the build of the marts failed.
    """
    problems: list[str] = []

    def listed() -> None:
        if problem := erasures.tell_backups(settings):
            problems.append(problem)
            say(problem)

    outcome = privacy.forget(settings, identity, reason=reason, listed=listed)
    restore.forget_files(settings)
    if config.is_wanted():
        follower.follow(settings, say)
    return Erased(
        outcome,
        tuple((one.mart, one.place) for one in exports(settings) if one.stale),
        tuple(forgotten(settings)),
        "".join(problems),
    )
