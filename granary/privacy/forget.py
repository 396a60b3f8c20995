"""`granary forget`: erase somebody, have the marts follow, and say when nothing is left.

1. One transaction takes them out of raw, snapshots, quarantine and profiles, and keeps the hash (see erasure). Files of
   archived raw rows are written again before it, without them, and change places in it.
2. The hash goes into the list beside the database.
3. dbt builds, audits and publishes what the erasure touched, as after a load.
4. Every column with keys of data subjects is looked through; the tables are vacuumed; the erasure is finished.

Each step finds out by itself what is left to do, so a run that was killed is finished by the next one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.dbt import manifest as dbt_manifest
from granary.dbt.runner import BUILD, BuildError, Runner
from granary.privacy import erasure, locator
from granary.privacy.erasure import NoArchive, Total
from granary.privacy.locations import Locations, locate, undeclared
from granary.privacy.suppression_list import SuppressionList, enlist, keep_key, key_of, new_key, suppressed
from granary.warehouse import server
from granary.warehouse.connection import Connection, connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from granary.privacy.erasure import Archive, Away
    from granary.privacy.identity import Identity
    from granary.privacy.suppression_list import HashKey
    from granary.warehouse.settings import Settings

Builder = Callable[["Settings"], None]
NO_ARCHIVE = NoArchive()
TRIES = 5
"""How often files are prepared, if rows are archived meanwhile."""


@dataclass(frozen=True)
class Outcome:
    """What an erasure did.

    `totals` are what was taken from each relation, of marts by month; `left` the relations that still have somebody who
    is forgotten. `elsewhere` are those with a key in a column that is called like one with such keys, and that nothing
    declares: their owners have to see to them.
    """

    erasures: tuple[int, ...]
    known_before: bool
    finished: bool
    totals: tuple[Total, ...]
    left: tuple[str, ...]
    elsewhere: tuple[str, ...]


def look(settings: Settings, identity: Identity, archive: Archive = NO_ARCHIVE) -> tuple[Total, ...]:
    """Return what would be taken out: the erasure is done, and rolled back.

    Raises:
        GranaryError: the warehouse has nothing of them.
    """
    server.prepare(settings)
    where = locate(settings)
    with closing(_begin(settings, where, identity, archive)) as connection:
        suppressed(connection, settings)
        key = key_of(settings) or new_key()
        return _erase(connection, where, key, identity, None, archive.away(connection))


def forget(
    settings: Settings,
    identity: Identity | None,
    *,
    reason: str | None = None,
    build: Builder | None = None,
    archive: Archive = NO_ARCHIVE,
    listed: Callable[[], None] = lambda: None,
) -> Outcome:
    """Forget somebody, and finish what earlier erasures have left; with None only that (`--again`).

    `archive` knows the files of archived raw rows; `listed` is called once the rows are gone and the list beside the
    database has them. Whoever wants them out of everything calls `granary.erasure.everywhere`.

    Raises:
        GranaryError: the warehouse has nothing of them and has not forgotten them, or the build failed.
    """
    server.prepare(settings)  # a dump that was restored may be of an earlier version
    where = locate(settings)
    with closing(_begin(settings, where, identity, archive)) as connection:
        suppressed(connection, settings)  # raises if the key is not here: a new one would forget nobody else
        key = key_of(settings) or new_key()
        erasure.restore(settings, connection)
        known = identity is not None and _known(connection, key, identity)
        totals: tuple[Total, ...] = ()
        away = archive.away(connection)
        if identity is not None:
            totals = _erase(connection, where, key, identity, reason, away)
        totals += _erase_again(connection, where, key, away)
        archive.switch(connection)
        keep_key(settings, key)
        fault_point("forget-before-commit")
        connection.commit()
    fault_point("forget-erased")
    with connect(settings, role="eraser") as connection:
        enlist(settings, connection)
    fault_point("forget-listed")
    listed()
    fault_point("forget-told")
    return _finish(settings, where, key, totals, build or publish, known_before=known)


def _begin(settings: Settings, where: Locations, identity: Identity | None, archive: Archive) -> Connection:
    """Have the archive prepared, and open the transaction in which nothing more can be archived."""
    for _ in range(TRIES):
        with connect(settings, role="eraser") as connection:
            listed = suppressed(connection, settings)

        def is_one(one: Identity, listed: SuppressionList | None = listed) -> bool:
            return one == identity or (listed is not None and listed.has(one))

        archive.prepare(is_one)
        connection = erasure.begin(settings, where)
        try:
            if archive.is_ready(connection):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise GranaryError("raw rows are archived again and again meanwhile", "the warehouse", "wait, and run this again")


def _known(connection: Connection, key: HashKey, identity: Identity) -> bool:
    return bool(query(connection, "select 1 from ops.erasures where subject = $1", key.hash(identity)))


def _erase(
    connection: Connection,
    where: Locations,
    key: HashKey,
    identity: Identity,
    reason: str | None,
    away: dict[Identity, list[Away]],
) -> tuple[Total, ...]:
    """Take one out, of `away` as well; raises if there is nothing of them and never was."""
    known = _known(connection, key, identity)
    erasure_id = erasure.register(connection, key, key.hash(identity), reason)
    at_work = erasure.Erasing(connection, where)
    at_work.erase(identity, erasure_id, away.pop(identity, ()))
    if at_work.taken:
        erasure.reopen(connection, erasure_id)
    elif not known:
        connection.rollback()
        names = sorted({f"{place.name}.{place.column}" for place in where.of(identity.subject).raw})
        todo = f"the keys are in {', '.join(names)}" if names else "no raw table here has such keys"
        raise GranaryError(f"there is no such {identity.subject.name}", "the warehouse", todo)
    return tuple(at_work.totals)


def _erase_again(
    connection: Connection, where: Locations, key: HashKey, away: dict[Identity, list[Away]]
) -> tuple[Total, ...]:
    """Take out all who were forgotten and are there again, after an older dump was restored."""
    rows = query(connection, "select subject from ops.erasures where key_mark = $1", key.mark)
    wanted = SuppressionList(key, (str(row[0]) for row in rows))
    totals: tuple[Total, ...] = ()
    present = locator.present(connection, wanted, where, (*where.raw, *where.kept))
    for identity in dict.fromkeys((*present, *away)):
        totals += _erase(connection, where, key, identity, None, away)
    return totals


def _finish(
    settings: Settings, where: Locations, key: HashKey, totals: tuple[Total, ...], build: Builder, *, known_before: bool
) -> Outcome:
    with connect(settings, role="eraser") as connection:
        rows = query(
            connection,
            "select erasure_id, subject from ops.erasures where finished_at is null and key_mark = $1 order by 1",
            key.mark,
        )
    unfinished = {str(subject): int(number) for number, subject in rows}
    ours, elsewhere = _left(settings, where, key, unfinished)
    if ours:
        _follow(settings, build)
        fault_point("forget-built")
        where = locate(settings)
        ours, elsewhere = _left(settings, where, key, unfinished)
    if unfinished and not ours:
        erasure.vacuum(settings, where.places)
        with connect(settings, role="eraser") as connection:
            execute(
                connection,
                "update ops.erasures set finished_at = clock_timestamp()"
                " where erasure_id = any($1::bigint[]) and finished_at is null",
                list(unfinished.values()),
            )
            connection.commit()
    return Outcome(tuple(unfinished.values()), known_before, not ours, totals, ours, elsewhere)


def _left(
    settings: Settings, where: Locations, key: HashKey, unfinished: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the relations that still have one of those (by hash): which are declared, and others."""
    if not unfinished:
        return (), ()
    wanted = SuppressionList(key, unfinished)
    with connect(settings, role="eraser") as connection:
        ours = locator.present(connection, wanted, where, where.places)
        others = locator.holding(connection, wanted, undeclared(settings, connection, where))
    left, elsewhere = (set[str]().union(*found.values()) for found in (ours, others))
    return tuple(sorted(left)), tuple(sorted(elsewhere))


# -- the marts follow ----------------------------------------------------------------------------------------


def publish(settings: Settings) -> None:
    """Build, audit and publish what an erasure touched, by dbt, as any run does.

    Raises:
        BuildError: something failed.
    """
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    runner = Runner(settings, manifest, target(settings))
    runner.run([*BUILD, "--vars", json.dumps(dbt_manifest.INCREMENTAL_VARS)], GRANARY_ERASING="yes")


def target(settings: Settings) -> Path:
    """Return the folder of dbt's artifacts of it."""
    return dbt_manifest.folder(settings) / "forget"


def _follow(settings: Settings, build: Builder) -> None:
    """Have the marts follow.

    Raises:
        GranaryError: something failed; the erasure is not finished, and people still read the marts as they were.
    """
    try:
        build(settings)
    except BuildError as error:
        raise GranaryError(
            f"the rows are out of raw, and the marts do not follow: {error.problems[0].what}",
            str(target(settings)),
            "fix that and run this again: until then people still read the marts as they were",
        ) from None
