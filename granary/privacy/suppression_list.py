"""Who is forgotten: data subjects known by a keyed hash only, in the database and in a list beside it.

The hash is HMAC-SHA-256 (RFC 2104) of the data subject's name, a colon and its key in canonical form ("customer:7").
The secret comes from GRANARY_ERASURE_KEY (hex) or an owner-only file in the home folder; without it nobody can tell who
is meant, and nothing can be loaded safely.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from granary.warehouse.connection import query
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from granary.privacy.identity import Identity
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

SETTING = "GRANARY_ERASURE_KEY"
KEY_BYTES = 32


@dataclass(frozen=True)
class HashKey:
    """The secret by which data subjects are hashed. `mark` says which one it is, and nothing about it."""

    secret: bytes = field(repr=False)

    @property
    def mark(self) -> str:
        """A digest of the key."""
        return hashlib.sha256(b"granary erasure key " + self.secret).hexdigest()[:16]

    def hash(self, identity: Identity) -> str:
        """Return the keyed hash of a data subject."""
        return hmac.digest(self.secret, f"{identity.subject.name}:{identity.key}".encode(), "sha256").hex()


@dataclass(frozen=True)
class Entry:
    """One who is forgotten, as the list beside the database has it; `subject` is the hash."""

    subject: str
    key_mark: str
    requested_at: str
    reason: str | None = None


def folder(settings: Settings) -> Path:
    """Return where key and list are: outside of the database, so that no dump of it has them."""
    return settings.home / "erasures"


def key_of(settings: Settings) -> HashKey | None:
    """Return the key; None if there is none.

    Raises:
        GranaryError: GRANARY_ERASURE_KEY or the file holds no key.
    """
    path = folder(settings) / "key"
    where, text = SETTING, os.environ.get(SETTING)
    if text is None:
        if not path.exists():
            return None
        where, text = str(path), path.read_text()
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        secret = b""
    if len(secret) < KEY_BYTES:
        raise GranaryError("the key of erasures is no 64 hexadecimal digits", where, "put the right one back")
    return HashKey(secret)


def new_key() -> HashKey:
    """Return a new key, which is kept nowhere yet."""
    return HashKey(secrets.token_bytes(KEY_BYTES))


def keep_key(settings: Settings, key: HashKey) -> None:
    """Keep a key in its file, unless there is one already or it comes from the environment."""
    path = folder(settings) / "key"
    if SETTING in os.environ or path.exists():
        return
    _make_private(folder(settings))
    fresh = path.with_name("key.new")
    _write(fresh, key.secret.hex() + "\n")
    fresh.replace(path)


def entries(settings: Settings) -> list[Entry]:
    """Return the list beside the database."""
    path = folder(settings) / "list.jsonl"
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def enlist(settings: Settings, connection: Connection) -> None:
    """Add to the list what the database knows and the list does not."""
    rows = query(connection, "select subject, key_mark, requested_at, reason from ops.erasures order by erasure_id")
    add(settings, [Entry(row[0], row[1], row[2].isoformat(), row[3]) for row in rows])


def add(settings: Settings, more: Iterable[Entry]) -> None:
    """Add to the list who is not on it."""
    _make_private(folder(settings))
    with locked(folder(settings) / "lock", "writing the list of erasures"):
        listed = entries(settings)
        known = {entry.subject for entry in listed}
        new = [entry for entry in more if entry.subject not in known]
        if new:
            path = folder(settings) / "list.jsonl"
            fresh = path.with_suffix(".new")
            _write(fresh, "".join(json.dumps(asdict(entry)) + "\n" for entry in [*listed, *new]))
            fresh.replace(path)


class SuppressionList:
    """Whose rows loads must leave out."""

    def __init__(self, key: HashKey, hashes: Iterable[str]) -> None:
        self.key, self.hashes = key, frozenset(hashes)

    def has(self, identity: Identity) -> bool:
        """Return whether a data subject is forgotten."""
        return self.key.hash(identity) in self.hashes


def suppressed(connection: Connection, settings: Settings) -> SuppressionList | None:
    """Return who is forgotten, by the database or by the list beside it; None if nobody is.

    Raises:
        GranaryError: somebody is, and the key is not here: nobody can tell whose rows must not be loaded.
    """
    rows = [(str(row[0]), str(row[1])) for row in query(connection, "select subject, key_mark from ops.erasures")]
    rows += [(entry.subject, entry.key_mark) for entry in entries(settings)]
    if not rows:
        return None
    key = key_of(settings)
    if key is None or any(mark != key.mark for _, mark in rows):
        raise GranaryError(
            "there are forgotten data subjects, and the key that identifies them is not here",
            str(folder(settings) / "key"),
            f"put that file back, or set {SETTING}: without it their rows would be loaded again",
        )
    return SuppressionList(key, (subject for subject, _ in rows))


def _make_private(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def _write(path: Path, text: str) -> None:
    """Write an owner-only file, and wait for the disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
