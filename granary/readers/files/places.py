"""Opens the place where files lie, by its address: a folder of this machine, or a URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from granary.readers.files.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.readers.files.store import Store


def open_store(location: str, credentials: Mapping[str, str]) -> Store:
    """Return the store of a local folder or of a URL."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        return LocalStore(Path(location))
    if scheme == "file":
        return LocalStore(Path(rest))
    from granary.readers.files.remote import RemoteStore  # noqa: PLC0415 - local files need no fsspec

    return RemoteStore(location, credentials)
