"""The embedded Postgres: create, tune, start, stop, look at.

It listens on a Unix socket, in a folder that only its owner may enter, and asks the kernel who is calling (peer
authentication), so there is neither a port nor a password; unless `listen` says that people may come by the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from granary.warehouse import configuration, migrate, waits
from granary.warehouse.cluster import initdb, refuse_other_version
from granary.warehouse.connection import (
    LOCK_SECONDS,
    LockHeldError,
    connect,
    ensure_database,
    execute,
    lock,
    query,
    reason,
)
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked
from granary.warehouse.layout import Layout, last_line, last_words, make_private, plan
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MIB = 1024 * 1024
BACKED_UP = "backup/id"
"""The file in a home that says: backups are made of it."""
LOG_FOR_BACKUPS = {
    "wal_level": "replica",
    "max_wal_senders": "4",
    "summarize_wal": "on",  # which blocks changed, for backups that are increments
    # A destination that is away for long holds no more than this back; then a new backup begins anew.
    "max_slot_wal_keep_size": "20GB",
}
LOG_LEVEL = """
    select
        current_setting('wal_level'), (
            select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
        )
"""
MINIMUM_VERSION = 14
ENDING_SECONDS = 300
"""How long processes of a server that was killed may take to end: each finishes what it is at."""
LOCKED_SECONDS = ENDING_SECONDS + 60
"""How long to wait for another process that starts or stops the server: it may wait for those, too."""
RECOVERING = "the server is recovering what it had not finished when it was stopped; waiting for it"
STILL_SECONDS = 60
WORD_SECONDS = 3


def up(settings: Settings) -> bool:
    """Start the embedded server if need be and bring the warehouse's own tables and roles up to date.

    An external server is not started, only prepared. May be called at any time, by several processes at once, and
    after any crash: a half-made cluster is made again, a stale lock file is removed by the server itself.

    Returns:
        Whether a server was started by this call.

    Raises:
        GranaryError: no space, no unprivileged user, the server does not start (with its own last words), or an
            external server does not answer.
    """
    started = False
    if not settings.external:
        with locked_home(settings.home):
            layout = plan(settings.home)
            if not running(settings):
                refuse_other_version(layout)
                _create(layout)
                configure(layout, settings.home)
                start(layout)
                started = True
            elif (layout.data / "postmaster.pid").exists() and configuration.changed(layout, settings.home):
                configure(layout, settings.home)
                layout.command("pg_ctl", "reload", "-D", str(layout.data))
    prepare(settings)
    return started


def down(settings: Settings) -> bool:
    """Stop the embedded server, letting running transactions roll back; return whether there was one to stop."""
    if settings.external:
        raise GranaryError(
            "the warehouse is an external Postgres, which Granary does not stop", settings.host, "unset PGHOST"
        )
    with locked_home(settings.home):
        layout = plan(settings.home)
        if not running(settings):
            return False
        layout.command("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(layout.data))
        return True


def running(settings: Settings) -> bool:
    """Return whether the server accepts connections."""
    try:
        connect(settings, "postgres").close()
    except GranaryError:
        return False
    return True


def prepare(settings: Settings, role_prefix: str | None = None, *, rehearses: bool = False) -> tuple[str, ...]:
    """Create the warehouse's database, and bring its `ops` tables and its roles up to date; may be run again.

    Args:
        settings: the warehouse.
        role_prefix: how names of roles begin in a new warehouse, if that is not as `role_names.prefix_of` finds.
        rehearses: undo it, to know whether it would succeed.

    Returns:
        The migrations that were applied.

    Raises:
        GranaryError: the server is older than Postgres 14, the warehouse is of a newer version than this engine, or
            the login may not create databases or roles.
    """
    ensure_database(settings, settings.database)
    with connect(settings) as connection:
        version = int(str(query(connection, "select current_setting('server_version_num')")[0][0])) // 10000
        if version < MINIMUM_VERSION:
            raise GranaryError(f"Postgres {version} is too old", settings.host, f"use {MINIMUM_VERSION} or newer")
        migrate.pending(connection, settings, migrate.installed())  # before anything is touched
        connection.rollback()
        with _preparing(settings):
            applied = (migrate.rehearse if rehearses else migrate.migrate)(connection, settings, role_prefix)
        if settings.external and query(connection, "select has_schema_privilege('public', 'public', 'create')")[0][0]:
            waits.notify(  # before Postgres 15 the schema is not the database owner's
                "warning: everybody who is let in may make functions that the warehouse's sessions find; have an"
                f" administrator run in {settings.database}: revoke create on schema public from public"
            )
        return applied


@contextmanager
def _preparing(settings: Settings) -> Iterator[None]:
    """Let one process at a time prepare the warehouse.

    Raises:
        GranaryError: another one has been at it for too long, or this login may not make schemas.
    """
    with connect(settings) as connection:
        try:
            for attempt in range(2):  # two that begin at once make the same table: one of them finds it then
                try:
                    execute(connection, "create schema if not exists ops")
                    execute(connection, "create table if not exists ops.locks (name text primary key)")
                    connection.commit()
                except (errors.UniqueViolation, errors.DuplicateTable, errors.DuplicateSchema):
                    connection.rollback()
                    if attempt:
                        raise
            lock(connection, "prepare", LOCK_SECONDS)
        except LockHeldError as error:
            raise GranaryError(
                f"the warehouse cannot be prepared: {error.what}", settings.host, "wait for that session, or end it"
            ) from None
        except psycopg.Error as error:
            raise GranaryError(
                f"the warehouse cannot be prepared: {reason(error)}",
                settings.host,
                "the login must own the database and be allowed to create roles",
            ) from None
        yield


@contextmanager
def locked_home(home: Path) -> Iterator[None]:
    """Let one process at a time create, start or stop the server of this home."""
    make_private(home)
    with locked(home / "server.lock", "starting or stopping the server", LOCKED_SECONDS):
        yield


def _create(layout: Layout) -> None:
    """Make the cluster once; built beside its place and moved there when complete, so a kill leaves no half."""
    if (layout.data / "PG_VERSION").exists():
        return
    free = shutil.disk_usage(layout.root).free // MIB
    if free < 200:  # noqa: PLR2004 - an empty cluster takes 40 MB, its first log segments 64 MB
        raise GranaryError(f"only {free} MB of disk space are left", str(layout.root), "free some, or set GRANARY_HOME")
    building = initdb(layout)
    shutil.rmtree(layout.data, ignore_errors=True)
    building.rename(layout.data)


def configure(layout: Layout, home: Path, more: Mapping[str, str] | None = None) -> None:
    """Write who may come in, and settings fit for this machine's memory and cores, with `more` over them."""
    logged = LOG_FOR_BACKUPS if (home / BACKED_UP).exists() else {}
    configuration.write(layout, home, tuning(layout.run) | logged | dict(more or {}))


def write_log_for_backups(settings: Settings) -> bool:
    """Have the embedded server write its log so that backups can be made of it: for that it starts again, once.

    The home is marked already (`BACKED_UP`).

    Returns:
        Whether it was started again.

    Raises:
        GranaryError: somebody is connected, whose work would be lost.
    """
    with connect(settings) as connection:
        ((level, others),) = query(connection, LOG_LEVEL)
    if level != "minimal":
        return False
    if others:
        what = "the server must start again once, to write its log for backups, and somebody is connected"
        raise GranaryError(what, f"{settings.host}, connections: {others}", "end their work; then try again")
    down(settings)
    up(settings)
    return True


def memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's if smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = "max"
    return min(total, int(limit)) if limit.isdigit() else total


def tuning(socket_folder: Path, total: int | None = None, cores: int | None = None) -> dict[str, str]:
    """Return server settings for a machine with `total` bytes of memory and `cores` processors.

    A quarter of the memory is shared buffers (the manual's starting point), at most 4 GB since the operating
    system caches the rest; sorts and hashes get 1/96 each, so that four dbt threads with two workers of two nodes
    stay within another quarter. Durability is never given up; only replication is, until backups are made: with
    wal_level=minimal rows copied into a new table are not written twice.
    """
    total = total or memory()
    cores = cores or os.cpu_count() or 2
    megabytes = total // MIB
    try:
        shared_memory = shutil.disk_usage("/dev/shm").free // MIB  # noqa: S108 - asked for its size only
    except OSError:
        shared_memory = 0
    return {
        "listen_addresses": "''",
        "unix_socket_directories": "'" + str(socket_folder).replace("'", "''") + "'",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": f"{max(64, min(4096, megabytes // 4))}MB",
        "effective_cache_size": f"{max(128, megabytes * 5 // 8)}MB",
        "work_mem": f"{max(8, min(512, megabytes // 96))}MB",
        # The index of 21 million rows is sorted in 1.7 GB; with less it goes through files and takes twice as long.
        "maintenance_work_mem": f"{max(64, min(2048, megabytes // 12))}MB",
        # In a container /dev/shm is often 64 MB, too little for a parallel hash join.
        "dynamic_shared_memory_type": "posix" if shared_memory > megabytes // 16 else "mmap",
        "max_worker_processes": str(max(8, cores * 2)),
        "max_parallel_workers": str(cores),
        "max_parallel_workers_per_gather": str(max(1, min(4, cores))),
        "max_parallel_maintenance_workers": str(max(1, min(4, cores))),
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "8GB" if megabytes > 8192 else "2GB",  # noqa: PLR2004
        "checkpoint_timeout": "15min",
        # What a large load has written of the log is given back at the next checkpoint: kept for the next such load,
        # 2.1 to 4 GB of the first year's stayed, a third of the home, while a day writes a hundredth of that.
        "wal_recycle": "off",
        "random_page_cost": "1.1",
        # Loads come in batches: once in a while is often enough, and not in the middle of building what was loaded.
        "autovacuum_naptime": "5min",
        "jit": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_line_prefix": "'%m [%p] %q%u %a '",
        "log_checkpoints": "off",
        # Errors of statements go to who sent them and not into the log: they show values of rows.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
    }


def start(layout: Layout) -> None:
    """Start the server, and wait for as long as it gets on.

    One that was killed a moment ago holds its lock until its last process has gone; then the new one recovers what was
    not in its tables yet, which takes as long as there is of it.
    """
    _disown(layout)
    began = time.monotonic()
    notified = False
    while True:
        size = layout.log.stat().st_size
        try:
            layout.command("pg_ctl", "start", "-w", "-t", "60", "-D", str(layout.data), "-l", str(layout.log))
        except GranaryError as error:
            words = last_words(layout.log, size) or error.what
            if postmaster(layout) and recovers(layout, RECOVERING):
                return
            ending = "lock file" in words or "shared memory" in words
            if ending and time.monotonic() - began < ENDING_SECONDS:
                if not notified and time.monotonic() - began > WORD_SECONDS:
                    notified = True
                    waits.notify("the server was killed; waiting until the last of its processes has ended")
                time.sleep(0.2)
                continue
            raise GranaryError(f"the embedded server did not start: {words}", str(layout.log), "see its log") from None
        return


def recovers(layout: Layout, words: str = "") -> bool:
    """Wait for a server that has begun; return whether it accepts connections, and False once it has ended.

    With `words` people are told why they wait.

    Raises:
        GranaryError: it is there, and has said nothing in its log for a minute: while it recovers, it does every 10 s.
    """
    if words:
        waits.notify(words)
    size, changed = -1, time.monotonic()
    while not _is_ready(layout):
        if not postmaster(layout):
            return False
        if (now := layout.log.stat().st_size) != size:
            size, changed = now, time.monotonic()
        elif time.monotonic() - changed > STILL_SECONDS:
            raise GranaryError(
                f"the embedded server does not make progress: {last_line(layout.log)}", str(layout.log), "see its log"
            )
        time.sleep(0.2)
    return True


def _is_ready(layout: Layout) -> bool:
    """Return whether the server says in its lock file that it is ready."""
    try:
        return (layout.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def postmaster(layout: Layout) -> int | None:
    """Return the process that runs this server, if there is one: another may have the number that is in its file."""
    try:
        pid = int((layout.data / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    command = _command_of(pid)
    return pid if "postgres" in command and str(layout.data) in command else None


def _command_of(pid: int) -> str:
    """Return the command line of a process, or nothing if there is none."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]  # macOS
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout


def _disown(layout: Layout) -> None:
    """Have a lock file name a process that has ended, if its number is now that of another program.

    The rest of the file stays: by it Postgres finds out whether processes of the old server still use its memory.
    """
    path = layout.data / "postmaster.pid"
    if not path.exists() or postmaster(layout):
        return
    ended = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    ended.wait()
    _, _, rest = path.read_text().partition("\n")
    path.write_text(f"{ended.pid}\n{rest}")
