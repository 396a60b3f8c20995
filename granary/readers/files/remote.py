"""Files on S3, SFTP, HTTP(S) and whatever else fsspec reaches: looked at by their server's words, read from a copy.

A remote file is copied to this machine's disk once, and hashed on the way; what is loaded are exactly the bytes that
were hashed, and no transaction waits for a network. (See docs/engine/decisions/0008.)
"""

from __future__ import annotations

import base64
import errno
import hashlib
import shutil
import socket
import tempfile
import time
from collections import deque
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from granary.readers.files.copies import Copies
from granary.readers.files.formats import by_name
from granary.readers.files.patterns import enters, fixed, takes
from granary.readers.files.store import LOOKED_INTO, YOUNG_SECONDS, Entry, looked_into, same, shown
from granary.sources.units import StillWrittenError, UnreachableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SPARE_BYTES = 1 << 30
"""What copying leaves free on the disk: the warehouse may be on it."""

BLOCK_BYTES = 4 << 20
TIMEOUT_SECONDS = 60
REFUSALS = {
    *("PermissionError", "PermissionDenied", "SFTPPermissionDenied", "NoCredentialsError", "ClientResponseError"),
    "403",
}
ABSENCES = {"SFTPNoSuchFile", "SFTPNoSuchPath", "NoSuchBucket", "NoSuchKey", "404"}
EXTRA = "install them: pip install 'granary-elt[files]'"
OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "adl"})
"""Places that are listed by prefix: one question for all folders."""

MISSING, REFUSED = "there is no such file or folder", "the server refuses our credentials"
SKEWED = "the server's clock is not ours, so it takes nothing that we sign"
SAME_TIME = "have both machines follow the same time servers; `timedatectl` shows whether this one does"
Step = tuple[str, "Mapping[str, Any] | str"]
TIMES = ("LastModified", "mtime", "last_modified", "Last-Modified", "updated", "modified")


class RemoteFiles:
    """A bucket, a server's folder or a web address. Queries of the URL are options, such as `?endpoint_url=…`."""

    def __init__(self, location: str, credentials: Mapping[str, str]) -> None:
        """Remember the place; the server is asked when files are."""
        parts = urlsplit(location)
        self.scheme = parts.scheme.lower()
        self.web = self.scheme in ("http", "https")
        host = parts.netloc.rpartition("@")[2]
        self.place = f"{self.scheme}://{host}{parts.path}".rstrip("/")
        self._root = (self.place if self.web else f"{'' if self.scheme == 'sftp' else host}{parts.path}").rstrip("/")
        self._url, self._options, self._credentials = parts, dict(parse_qsl(parts.query)), dict(credentials)
        self._files: Any = None

    def name(self, path: str) -> str:
        """Return the name below the place of what the server calls by this path."""
        return path.lstrip("/").removeprefix(self._root.lstrip("/")).strip("/")

    def path(self, name: str) -> str:
        """Return what the server calls a name below the place."""
        return f"{self._root}/{name}" if self._root or self.scheme == "sftp" else name

    def _where(self, name: str) -> str:
        return f"{self.place}/{name.partition('?')[0]}"

    @contextmanager
    def explained(self, name: str) -> Iterator[Any]:
        """Yield the file system; whatever it raises becomes words that hold no secret."""
        where = self._where(name)
        try:
            if self._files is None:
                self._files = self._connect()
            self._files.invalidate_cache()
            yield self._files
        except GranaryError:
            raise
        except ImportError:
            raise GranaryError(f"the packages for {self.scheme}:// are not there", self.place, EXTRA) from None
        except Exception as error:  # the libraries below share no base class
            words = SKEWED if any(_code(one) == "RequestTimeTooSkewed" for one in _causes(error)) else _what(error)
            todo = SAME_TIME if words == SKEWED else "check the location, the credentials and the server"
            if words == MISSING and not self.web:
                raise StillWrittenError("the file is gone", where, todo) from None
            kind = UnreachableError if words in (REFUSED, SKEWED) else GranaryError
            raise kind(words, where, todo) from None

    def _connect(self) -> Any:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second, that only remote files pay

        options: dict[str, Any] = {"skip_instance_cache": True, **self._options, **self._credentials}
        if self.scheme == "s3":
            region = options.pop("region", None)
            client = {"region_name": region} if region else {}
            config = {"connect_timeout": TIMEOUT_SECONDS, "read_timeout": TIMEOUT_SECONDS}
            options |= {"use_listings_cache": False, "client_kwargs": client, "config_kwargs": config}
            if "anon" in options:
                options["anon"] = options["anon"] == "true"
        elif self.scheme == "sftp":
            options |= {"host": self._url.hostname, "port": self._url.port or 22}
            for key, value in (("username", self._url.username), ("password", self._url.password)):
                if value:
                    options[key] = value
            # asyncssh checks the server's key against ~/.ssh/known_hosts for (), and checks nothing for None.
            options.setdefault("known_hosts", ())
            if "client_keys" in options:
                options["client_keys"] = [options["client_keys"]]
            options.setdefault("timeout", TIMEOUT_SECONDS)
            from sshfs import SSHFileSystem  # type: ignore[import-untyped]  # noqa: PLC0415 - only SFTP needs it

            return SSHFileSystem(**options)
        elif self.web:
            options = {"skip_instance_cache": True, **_web_options(self._credentials)}
        elif self.scheme not in fsspec.available_protocols():
            todo = "correct it; `granary sources` lists what can be read, and by which address"
            raise GranaryError(f"no reader knows addresses with {self.scheme}://", self.place, todo)
        return fsspec.filesystem(self.scheme, **options)


class RemoteStore(RemoteFiles):
    """Where files are read from."""

    def __init__(self, location: str, credentials: Mapping[str, str]) -> None:
        """Remember the place; the server is asked when files are."""
        super().__init__(location, credentials)
        self._copies = Copies()

    def entries(self, pattern: str, table: str) -> list[Entry]:
        """Return the matching files, in order of their names; a web server lists nothing, so a pattern is a path."""
        del table
        if self.web:
            return [self.entry(pattern)]
        if self.scheme in OBJECTS:
            try:
                with self.explained(pattern) as files:
                    found = files.glob(self.path(pattern), detail=True)
            except StillWrittenError as error:
                raise GranaryError("the landing zone is missing", self.place, error.todo) from None
            listed: Iterable[Step] = [(self.name(path), info) for path, info in found.items()]
            if not found:
                self._look_for_bucket()
        else:
            listed = list(self._walk(fixed(pattern), lambda folder: enters(pattern, folder)))
            if not listed:
                self._look_for_place()
        entries = [
            self._looked(name, info, entered=enters(pattern, name))
            for name, info in listed
            if takes(pattern, name) or (isinstance(info, str) and enters(pattern, name))
        ]
        return sorted((entry for entry in entries if entry), key=lambda entry: entry.name)

    def names(self) -> Iterator[str]:
        """Yield the names of the files in the first folders; a web server tells none."""
        if not self.web:
            looked = count(1)
            for name, info in self._walk("", lambda folder: looked_into(folder) and next(looked) < LOOKED_INTO):
                if isinstance(info, str) or info["type"] != "directory":
                    yield shown(name)

    def _walk(self, folder: str, wanted: Callable[[str], bool]) -> Iterator[Step]:
        """Yield what is below a folder: (name, what the server says of it, or why a folder cannot be looked into)."""
        waiting = deque([folder])
        while waiting:
            folder = waiting.popleft()
            try:
                with self.explained(folder) as files:
                    listed = files.ls(self.path(folder).rstrip("/") or "/", detail=True)
            except UnreachableError as error:
                if not folder:
                    raise GranaryError(error.what, error.where, error.todo) from None
                yield folder, error.what
                continue
            except StillWrittenError:  # gone meanwhile, or never there
                continue
            for info in listed:
                name = self.name(info["name"])
                if name in ("", folder):
                    continue
                if info["type"] == "directory" and wanted(name):
                    waiting.append(name)
                else:
                    yield name, info

    def _look_for_bucket(self) -> None:
        """Tell a bucket without such files from one that is not there; a login may be denied the whole of a bucket."""
        with suppress(UnreachableError):
            try:
                with self.explained("") as files:
                    files.info(self._root.partition("/")[0])
            except StillWrittenError as error:
                raise GranaryError("the landing zone is missing", self.place, error.todo) from None

    def _look_for_place(self) -> None:
        """Tell an empty place from one that is not there; some servers list the one like the other."""
        try:
            with self.explained("") as files:
                files.info(self.path("").rstrip("/") or "/")
        except StillWrittenError:
            raise GranaryError("the landing zone is missing", self.place, "mount or create it") from None

    def _looked(self, name: str, info: Mapping[str, Any] | str, *, entered: bool) -> Entry | None:
        """Return what is there under a name, if it could be a file."""
        problem = ""
        if isinstance(info, str):
            return Entry(name, -1, None, "", None, unreachable=info)
        if ".." in name.split("/") or not name.isprintable():
            problem = "its name has characters that cannot be printed, or leads elsewhere"
        elif info["type"] == "link":
            problem = "it is a link, which may leave the landing zone"
        elif info["type"] == "directory":
            problem = "it is a folder with a file's name" if not entered and by_name(name)[0] else ""
        elif info["type"] != "file":
            problem = "it is not a regular file"
        if problem:
            return Entry(shown(name), -1, None, problem, None, problem=problem)
        return None if info["type"] == "directory" else self._entry(name, info)

    def entry(self, name: str) -> Entry:
        """Return a file as it is now."""
        with self.explained(name) as files:
            return self._entry(name, files.info(self.path(name)))

    def content(self, entry: Entry) -> str:
        """Return the SHA-256 of a file, keeping its copy for `local` if there is room."""
        try:
            path, found = self._fetch(entry)
        except StillWrittenError:
            return "changing"
        self._copies.keep(entry, path, found)
        return found

    def local(self, entry: Entry) -> Path:
        """Return the copy of a file, made anew if there is none."""
        path, expected = self._copies.take(entry)
        if path is None:
            path, found = self._fetch(entry)
            if expected not in (None, found):
                path.unlink()
                raise StillWrittenError("the file changed while it was read", self._where(entry.name), "")
            self._copies.lend(path)
        return path

    def verify(self, entry: Entry) -> None:
        """Do nothing: a copy does not change."""

    def _fetch(self, entry: Entry) -> tuple[Path, str]:
        path = self._copies.new()
        try:
            found = self._copied(entry, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        fault_point("file-copied")
        return path, found

    def _copied(self, entry: Entry, path: Path) -> str:
        state = hashlib.sha256()
        size = 0
        # Reading a web page from its beginning needs no ranges, which not every server has.
        how = {"block_size": 0} if self.web else {}
        with (
            self.explained(entry.name) as files,
            path.open("wb") as copy,
            files.open(self.path(entry.name), "rb", **how) as remote,
        ):
            while block := remote.read(BLOCK_BYTES):
                if shutil.disk_usage(path.parent).free < SPARE_BYTES:
                    raise OSError(errno.ENOSPC, "the disk is nearly full")
                state.update(block)
                copy.write(block)
                size += len(block)
        now = self.entry(entry.name)
        if size != now.size >= 0 and entry.identity == now.identity:
            raise GranaryError(f"{size:,} of {now.size:,} bytes came", self._where(entry.name), "load again")
        same(entry, now, self.place)
        return state.hexdigest()

    def _entry(self, name: str, info: Mapping[str, Any]) -> Entry:
        size = info.get("size")
        moment = next((info[key] for key in TIMES if info.get(key)), None)
        modified = _seconds(moment)
        tag = str(info.get("ETag") or info.get("etag") or "")
        identity = f"{size}:{tag}:{moment}"
        if tag and not tag.startswith("W/"):
            version: str | None = f"{size}:{tag}"
        else:
            old = modified is not None and time.time() - modified >= YOUNG_SECONDS
            version = f"{size}:{moment}" if old and size is not None else None
        return Entry(name, -1 if size is None else int(size), modified, identity, version)


def _what(error: Exception) -> str:
    """Return what went wrong, in words of ours: those of the libraries may hold secrets."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error  # so fsspec hides web errors
    kind, status, code = type(error).__name__, getattr(error, "status", None), _code(error)
    if isinstance(error, TypeError):
        return "the location has an option that it cannot have"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full, so no copy can be made in {tempfile.gettempdir()} (TMPDIR moves it)"
    if isinstance(error, FileNotFoundError) or {kind, code} & ABSENCES or status == HTTPStatus.NOT_FOUND:
        return MISSING
    if {kind, code} & REFUSALS and status in (None, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return REFUSED
    if kind == "HostKeyNotVerifiable":
        return "the server's host key is not known, so it may be another's"
    away = f"the server cannot be read: {next(filter(None, map(_away, _causes(error))), kind)}"
    return f"the server answered {status}" if status else away


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    known: set[int] = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> str:
    """Return what S3 calls an error, if it is one of S3's."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def _away(error: BaseException) -> str:
    """Return why a server is not reached, if the error says so."""
    kind, number = type(error).__name__, getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or kind == "ClientConnectorDNSError":
        return "its host is not known"
    if isinstance(error, OSError) and number == errno.ECONNREFUSED:
        return "it refuses the connection"
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return f"it sent nothing for {TIMEOUT_SECONDS} s"
    if isinstance(error, ConnectionError) or kind in ("ConnectionLost", "ServerDisconnectedError"):
        return "the connection was interrupted"
    return ""


def _web_options(credentials: dict[str, str]) -> dict[str, Any]:
    """Return what a web server is asked with: basic authentication, or a header that proves who asks."""
    import aiohttp  # noqa: PLC0415 - only web addresses need it

    options: dict[str, Any] = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(None, sock_read=TIMEOUT_SECONDS)}}
    headers = dict(credentials)
    if "username" in headers:
        pair = f"{headers.pop('username')}:{headers.pop('password', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    options["client_kwargs"]["headers"] = headers
    return options


def _seconds(moment: Any) -> float | None:
    """Return a point in time, as file systems give it, in seconds since 1970."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(moment, (int, float)):
        return float(moment)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return _seconds(parse(str(moment))) if moment else None
        except ValueError:
            continue
    return None
