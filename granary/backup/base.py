"""A base backup of the embedded server: its files by pg_basebackup, streamed to the destination, and what is beside it.

Nothing is kept on this machine meanwhile. What is not whole has no description and is removed by the next backup.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any

from granary.backup import catalog, erasures, logical, pruning, records
from granary.backup.catalog import Backup, Kind, Stored
from granary.backup.log import LogShipper, Shipped, mark_of, place_of
from granary.backup.project_files import write_home, write_project
from granary.backup.sealing import BLOCK_BYTES, Counted, sealing
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.filelock import locked
from granary.warehouse.layout import find_binaries
from granary.warehouse.migrate import engine_version
from granary.warehouse.settings import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.backup.config import Config
    from granary.readers.files.destination import Destination
    from granary.warehouse.settings import Settings

LOCK_SECONDS = 5
SUMMARIES = "WAL summar"
"""What the server says when it cannot tell which blocks have changed: after a restore it does not know."""
MANIFEST = "backup_manifest"


@dataclass
class _Stream:
    """The archive that pg_basebackup writes: whoever reads it hands it on to the destination."""

    source: IO[bytes]
    target: Any

    def read(self, size: int) -> bytes:
        block = self.source.read(size)
        if block:
            self.target.write(block)
        return block


def take(
    settings: Settings,
    config: Config,
    place: Destination,
    *,
    full: bool = False,
    take_over: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Backup:
    """Make a base backup, and store the log up to its end, so that it can be restored; of an external server, a dump.

    It holds what has changed since the last one, if that is known and the last full one is not too old.

    Raises:
        GranaryError: the server or the destination refuses, or another backup is at work.
    """
    started = catalog.now()
    with locked(_folder(settings) / "lock", "making a backup", LOCK_SECONDS):
        try:
            made = _made(settings, config, place, full=full, take_over=take_over, say=say)
        except GranaryError as error:
            with suppress(GranaryError):
                detail = {"problem": str(error)}
                records.keep(settings, "full", "", place.place, started, succeeded=False, detail=detail)
            raise
        records.keep(
            settings, made.kind, made.name, place.place, made.started_at, succeeded=True, size=made.stored_bytes
        )
    return made


def ready(settings: Settings, say: Callable[[str], None] = lambda _: None) -> None:
    """Have the embedded server write its log so that backups can be made of it.

    Raises:
        GranaryError: it has to start again for that, and somebody is connected.
    """
    mark_of(settings)
    if server.write_log_for_backups(settings):
        say("the server was started again, to write its log for backups from now on")


def _made(
    settings: Settings,
    config: Config,
    place: Destination,
    *,
    full: bool,
    take_over: bool,
    say: Callable[[str], None],
) -> Backup:
    if settings.external:
        return logical.take(settings, config, place, say=say)
    ready(settings, say)
    log = LogShipper(settings, place, config.encrypt_to, take_over)
    shipped = log.round()
    erasures.store(settings, place)
    for name in catalog.half_written(place):
        for file in place.names(f"{catalog.BACKUPS}/{name}"):
            place.remove(file)
    parent = None if full or shipped.gap else _parent(settings, config, place, shipped)
    try:
        made = _take(settings, config, place, log, parent, say)
    except GranaryError as error:
        if parent is None or SUMMARIES not in error.what:
            raise
        say("what has changed since the last backup is not known; this one is whole")
        made = _take(settings, config, place, log, None, say)
    for name in pruning.prune(place, config):
        say(f"no longer kept: {name}")
    return made


def _take(
    settings: Settings,
    config: Config,
    place: Destination,
    log: LogShipper,
    parent: Backup | None,
    say: Callable[[str], None],
) -> Backup:
    kind: Kind = "incremental" if parent else "full"
    started = catalog.now()
    name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}"[:18] + f"Z-{kind}"
    ending = ".tar.zst.age" if config.encrypt_to else ".tar.zst"
    folder = f"{catalog.BACKUPS}/{name}"
    say(f"{'what has changed since ' + parent.name if parent else 'everything'}, to {place.place}")
    files: dict[str, Stored] = {}
    with place.writing(f"{folder}/base{ending}") as file:
        counted = Counted(file)
        with sealing(counted, config.encrypt_to) as sealed:
            data_bytes, manifest = _stream(settings, _manifest(settings, parent), sealed)
        files[f"base{ending}"] = Stored(counted.size, counted.sha256)
    fault_point("backup-base-stored")
    for part, write in (("project", write_project), ("home", write_home)):
        if part == "home" and not config.encrypt_to:
            continue  # it has secrets
        with place.writing(f"{folder}/{part}{ending}") as file:
            counted = Counted(file)
            with sealing(counted, config.encrypt_to) as sealed:
                write(settings, sealed)
            files[f"{part}{ending}"] = Stored(counted.size, counted.sha256)
    timeline, start, end = _range(manifest)
    shipped = log.round()
    if shipped.position.lsn < end or shipped.gap:
        raise GranaryError("the server's log since the backup began is not complete", place.place, "make it again")
    with connect(settings) as connection:
        ((system, version),) = query(
            connection,
            "select cast(system_identifier as text), current_setting('server_version_num')::integer / 10000"
            " from pg_control_system()",
        )
    made = Backup(
        name=name,
        kind=kind,
        started_at=started,
        finished_at=catalog.now(),
        postgres=version,
        engine=engine_version(),
        system=system,
        encrypted=bool(config.encrypt_to),
        files=files,
        data_bytes=data_bytes,
        parent=parent.name if parent else None,
        timeline=timeline,
        start=start,
        end=end,
    )
    fault_point("backup-before-described")
    catalog.describe(place, made)
    path = _folder(settings) / "manifests" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(manifest)
    path.chmod(0o600)
    for old in sorted(path.parent.iterdir())[:-2]:
        old.unlink()
    return made


def _stream(settings: Settings, manifest: Path | None, sealed: Any) -> tuple[int, bytes]:
    """Write the server's files as one archive; return their bytes, and the server's own list of them."""
    command = [
        str(find_binaries() / "bin" / "pg_basebackup"),
        *("-h", settings.host, "-U", OWNER, "-D", "-", "-F", "tar", "-X", "none", "-c", "fast", "-l", "granary"),
        *([f"--incremental={manifest}"] if manifest else []),
    ]
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words, env=settings.environment()
        )
        assert process.stdout is not None
        found, size = b"", 0
        try:
            stream = _Stream(process.stdout, sealed)
            try:
                for member, content in _members(stream):
                    size += member.size
                    found = content or found
                while stream.read(BLOCK_BYTES):
                    pass
            except tarfile.TarError:
                pass  # it has ended early, and says why
            process.stdout.close()
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        words.seek(0)
        said = " ".join(words.read().decode(errors="replace").split())
    if code or not found:
        what = said.rpartition("error: ")[2][:400] or "the server sent no list of its files"
        raise GranaryError(f"pg_basebackup failed: {what}", settings.host, "see the server's log, and run this again")
    return size, found


def _members(stream: Any) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield what an archive has, as it is read; of the server's list of its files the content, too."""
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK_BYTES) as archive:
        for member in archive:
            content = b""
            if member.name == MANIFEST and (file := archive.extractfile(member)):
                content = file.read()
            yield member, content
            archive.members.clear()  # type: ignore[attr-defined]  # a hundred thousand files are not kept in memory


def _range(manifest: bytes) -> tuple[int, int, int]:
    """Return the timeline and the places in the log from which and to which it must be replayed."""
    ranges = json.loads(manifest)["WAL-Ranges"]
    last = max(ranges, key=lambda one: int(one["Timeline"]))
    start, end = (place_of(last[f"{which}-LSN"]) for which in ("Start", "End"))
    return int(last["Timeline"]), start, end


def _parent(settings: Settings, config: Config, place: Destination, shipped: Shipped) -> Backup | None:
    """Return the backup on which the next one can stand: the last one, if the log from there is whole."""
    every = [one for one in catalog.backups(place) if one.kind != "logical"]
    if not every or not (_folder(settings) / "manifests" / every[-1].name).exists():
        return None
    last = every[-1]
    first = catalog.chain(every, last, place.place)[0]
    age = datetime.now(timezone.utc) - first.finished
    same = last.timeline == shipped.position.timeline and last.encrypted == bool(config.encrypt_to)
    return last if same and age < config.full_every else None


def _manifest(settings: Settings, parent: Backup | None) -> Path | None:
    return _folder(settings) / "manifests" / parent.name if parent else None


def _folder(settings: Settings) -> Path:
    path = settings.home / "backup"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
