"""Backups of an external Postgres: dumps of the warehouse's and of Dagster's database, and the way back.

They are of the moment at which they were made; to any moment only the server's provider can restore. A dump is in
pg_dump's own format, so that `pg_restore` reads it once it is decrypted and unpacked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from granary.backup import catalog, erasures, pruning
from granary.backup.catalog import Backup, Owner, Stored
from granary.backup.log import mark_of
from granary.backup.project_files import write_home, write_project
from granary.backup.sealing import BLOCK_BYTES, Counted, sealing
from granary.backup.unpack import opened
from granary.warehouse import server
from granary.warehouse.connection import connect, ensure_database, execute, query, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import find_binaries
from granary.warehouse.migrate import engine_version
from granary.warehouse.role_names import prefix_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.backup.config import Config
    from granary.readers.files.destination import Destination
    from granary.warehouse.settings import Settings

VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
SAID = 400


def take(
    settings: Settings, config: Config, place: Destination, *, say: Callable[[str], None] = lambda _: None
) -> Backup:
    """Dump the warehouse's databases.

    Raises:
        GranaryError: a program of the server's version is missing, or the server or the destination refuses.
    """
    started, now = catalog.now(), datetime.now(timezone.utc)
    mine, there = Owner("external", mark_of(settings)), catalog.owner(place)
    if there is not None and there.system != mine.system:
        raise GranaryError(
            "the destination has the backups of another warehouse", place.place, "give another one: --to"
        )
    catalog.write(place, catalog.OWNER_FILE, vars(mine))
    erasures.store(settings, place)
    for name in catalog.half_written(place):
        for file in place.names(f"{catalog.BACKUPS}/{name}"):
            place.remove(file)
    name = f"{now:%Y%m%dT%H%M%S%f}"[:18] + "Z-logical"
    say(f"everything, to {place.place}")
    major, databases, size, prefix = _look(settings)
    program = program_of("pg_dump", major)
    ending = ".zst.age" if config.encrypt_to else ".zst"
    files: dict[str, Stored] = {}

    def store(file_name: str, write: Callable[[Any], None]) -> None:
        with place.writing(f"{catalog.BACKUPS}/{name}/{file_name}{ending}") as file:
            counted = Counted(file)
            with sealing(counted, config.encrypt_to) as sealed:
                write(sealed)
            files[f"{file_name}{ending}"] = Stored(counted.size, counted.sha256)

    for database in databases:
        store(f"{database}.dump", partial(_dump, settings, program, database))
    store("project.tar", partial(write_project, settings))
    if config.encrypt_to:
        store("home.tar", partial(write_home, settings))
    made = Backup(
        name=name,
        kind="logical",
        started_at=started,
        finished_at=started,  # of the moment at which the dump began
        postgres=major,
        engine=engine_version(),
        system=mine.system,
        encrypted=bool(config.encrypt_to),
        files=files,
        data_bytes=size,
        databases=databases,
        role_prefix=prefix,
    )
    catalog.describe(place, made)
    for gone in pruning.prune(place, config):
        say(f"no longer kept: {gone}")
    return made


def choose(place: Destination, at: datetime | None) -> Backup:
    """Return the newest dump that is not newer than a moment.

    Raises:
        GranaryError: there is none.
    """
    every = [one for one in catalog.backups(place) if one.kind == "logical"]
    old = [one for one in every if at is None or one.finished <= at]
    if not old:
        words = "there is no backup" if not every else f"{at:%F %T %Z} is before the first backup"
        raise GranaryError(words, place.place, "`granary backup --list`")
    return old[-1]


def load(
    aside: Settings, place: Destination, backup: Backup, keys: list[Any], *, say: Callable[[str], None] = lambda _: None
) -> None:
    """Restore a dump into databases of their own, those of `aside`, which are made; and prepare them.

    Raises:
        GranaryError: a file is missing, damaged or locked by another key, or the server refuses.
    """
    with connect(aside, "postgres") as connection:
        ((number,),) = query(connection, "select current_setting('server_version_num')::integer / 10000")
    if int(number) < backup.postgres:
        what = f"the backup is of Postgres {backup.postgres}, and the server has {number}"
        raise GranaryError(what, aside.host, "restore into a server of that version, or a newer one")
    program = program_of("pg_restore", int(number))
    drop(aside)
    ensure_database(aside, aside.database)
    server.prepare(aside, backup.role_prefix)  # the roles: a new server has none
    drop(aside)
    for old, new in zip(backup.databases, (aside.database, aside.dagster_database), strict=False):
        say(f"restoring {old}")
        ensure_database(aside, new)
        _restore(aside, program, place, backup, old, new, keys)
    erasures.fetch(aside, place)
    server.prepare(aside)


def swap(settings: Settings, aside: Settings) -> None:
    """Have the restored databases take the place of the others, which are dropped."""
    pairs = ((settings.database, aside.database), (settings.dagster_database, aside.dagster_database))
    with connect(settings, "postgres", autocommit=True) as connection:
        there = {row[0] for row in query(connection, "select cast(datname as text) from pg_database")}
        for old, new in pairs:
            if new not in there:
                continue
            if old in there:
                execute(connection, f"drop database {quote_name(old)} with (force)")
            execute(connection, f"alter database {quote_name(new)} rename to {quote_name(old)}")


def drop(aside: Settings) -> None:
    """Drop the databases of a restored warehouse, if they are there."""
    with connect(aside, "postgres", autocommit=True) as connection:
        for name in (aside.database, aside.dagster_database):
            execute(connection, f"drop database if exists {quote_name(name)} with (force)")


def aside_of(settings: Settings, name: str) -> Settings:
    """Return the settings of a warehouse beside another one, on the same server."""
    return replace(settings, home=settings.home / name, database=f"{settings.database}_{name}")


def program_of(name: str, major: int) -> str:
    """Return a program of Postgres that can work with a server: the system's own, which knows TLS, before ours.

    Raises:
        GranaryError: none is new enough.
    """
    ours = find_binaries() / "bin" / name
    for path in (shutil.which(name), str(ours)):
        if path is None:
            continue
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = VERSION.search(done.stdout)
        if found and int(found[1]) >= major:
            return path
    raise GranaryError(f"{name} of Postgres {major} is not there", name, "install the server's client programs")


def _look(settings: Settings) -> tuple[int, tuple[str, ...], int, str]:
    wanted = [settings.database, settings.dagster_database]
    with connect(settings) as connection:
        ((major,),) = query(connection, "select current_setting('server_version_num')::integer / 10000")
        prefix = prefix_of(connection, settings)
        rows = query(
            connection,
            "select cast(datname as text), pg_database_size(datname) from pg_database where datname = any($1::text[])",
            wanted,
        )
    there = {str(name): int(size) for name, size in rows}
    return int(major), tuple(name for name in wanted if name in there), sum(there.values()), prefix


def _dump(settings: Settings, program: str, database: str, sealed: Any) -> None:
    command = [program, "--format=custom", "--compress=0", "--no-password", "--dbname", database]
    with _running(command, settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while block := process.stdout.read(BLOCK_BYTES):
            sealed.write(block)


def _restore(
    aside: Settings, program: str, place: Destination, backup: Backup, old: str, new: str, keys: list[Any]
) -> None:
    name = next(file for file in backup.files if file.startswith(f"{old}.dump."))
    command = [program, "--no-password", "--exit-on-error", "--dbname", new]
    with _running(command, aside, stdin=subprocess.PIPE) as process, suppress(BrokenPipeError):  # then it says why
        assert process.stdin is not None
        with process.stdin, opened(place, backup, name, keys) as stream:
            while block := stream.read(BLOCK_BYTES):
                process.stdin.write(block)


@contextmanager
def _running(
    command: list[str], settings: Settings, stdin: int, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Postgres; leaving waits for its end.

    Raises:
        GranaryError: it failed.
    """
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=words, env=settings.environment())
        try:
            yield process
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code:
            raise _failed(command[0].rpartition("/")[2], words, settings.host)


def _failed(program: str, words: Any, where: str) -> GranaryError:
    """Return the error of a program; the server's words name objects, and no rows."""
    words.seek(0)
    said = " ".join(words.read().decode(errors="replace").split())
    return GranaryError(
        f"{program} failed: {said.rpartition('error: ')[2][:SAID]}", where, "fix that, and run this again"
    )
