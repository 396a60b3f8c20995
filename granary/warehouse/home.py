"""Whose a warehouse's home is: its server asks the kernel who is calling, and lets in its owner only."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

SERVER_USERS = ("granary", "postgres", "nobody")
"""System users that may run the server for root; the first that exists is taken."""


def refuse_foreign(home: Path) -> None:
    """Refuse a home whose server is another user's: it asks the kernel who is calling, and admits its owner only.

    Raises:
        GranaryError: the home, or the server in it, belongs to somebody else.
    """
    mine = {os.geteuid(), *(_known_users() if os.geteuid() == 0 else ())}
    try:
        found = (home / "data").stat()
        owner = found.st_uid
    except PermissionError:
        owner = _owner_of(home)
    except OSError:
        return  # there is no server yet
    if owner not in mine:
        raise GranaryError(
            f"this warehouse belongs to {_name_of(owner)}, and its server lets in nobody else, not even root",
            str(home),
            f"work as {_name_of(owner)}; or have them make you a login (`granary roles grant`) and let you in by the"
            " network (`granary up --listen`), and set PGHOST; or set GRANARY_HOME to a warehouse of your own",
        )


def _known_users() -> list[int]:
    """Return the numbers of the system users that may run the server for root."""
    return [user.pw_uid for user in pwd.getpwall() if user.pw_name in SERVER_USERS]


def _owner_of(path: Path) -> int:
    """Return whose the first folder is, from here upwards, that may be looked at."""
    for folder in (path, *path.parents):
        try:
            return folder.stat().st_uid
        except PermissionError:
            continue
    return -1


def _name_of(user: int) -> str:
    """Return the name of a system user."""
    try:
        return f"{pwd.getpwuid(user).pw_name!r}"
    except (KeyError, OverflowError):
        return f"user {user}"
