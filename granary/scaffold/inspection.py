"""Looks at a new source, whatever it is, and decides what will be written."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from granary.scaffold import lakes
from granary.scaffold.names import check_source
from granary.scaffold.plan import PlannedSource, plan
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.scaffold.agreed import AgreedTable

DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "oracle")


def inspect_source(
    name: str,
    where: str,
    *,
    only: tuple[str, ...] = (),
    keys: Mapping[str, tuple[str, ...]] | None = None,
    cursors: Mapping[str, str] | None = None,
    header: str | None = None,
    words: Mapping[str, tuple[str, ...]] | None = None,
    agreed: Mapping[str, AgreedTable] | None = None,
) -> PlannedSource:
    """Read a sample of a path, a database URL, an API URL or a lake, and decide on everything that is to be written.

    Args:
        name: the new source.
        where: what to look at.
        only: the tables to take; none of them means all.
        keys: keys that a person gave, by table ("" for any).
        cursors: likewise cursors.
        header: the header of an API's key, or "bearer".
        words: likewise words that stand for no value; none to find them.
        agreed: what the source's owner has promised of its tables.

    Raises:
        GranaryError: the name is none, there is nothing at the place, or nothing of it can be loaded.
    """
    check_source(name)
    if not where.isprintable() or where != where.strip() or not where:
        raise GranaryError("the place of the source has characters that no address has", todo="check how it is quoted")
    scheme = re.match(r"([a-z][a-z0-9]*)(\+[a-z0-9]+)?://", where)
    if scheme and scheme[1] in DATABASES:
        from granary.scaffold import databases

        opening, found, kind, skipped = databases.find(name, where, only, keys or {}, cursors or {})
        return plan(name, kind, opening, found, keys, cursors, skipped, words, agreed)
    if where.startswith(lakes.KINDS):
        opening, found, kind = lakes.find(name, where, only)
        return plan(name, kind, opening, found, keys, cursors, words=words, agreed=agreed)
    if scheme and scheme[1] in ("http", "https") and not _is_file(where):
        from granary.scaffold import apis

        opening, found = apis.find(name, where, only, header)
        return plan(name, "api", opening, found, keys, cursors, words=words, agreed=agreed)
    from granary.scaffold import files

    folder, found, skipped, formats = files.find(where, only)
    kind = Counter(kind_of(table.location) for table in found).most_common(1)[0][0] if found else "csv"
    return plan(name, kind, files.opening(name, folder, formats), found, keys, cursors, skipped, words, agreed)


def _is_file(url: str) -> bool:
    """Whether an address ends in the suffix of a file that is not an API's usual answer."""
    from granary.readers.files.formats import Json, by_name

    found, packed = by_name(urlsplit(url).path)
    return packed is not None or (found is not None and not isinstance(found, Json))


def kind_of(location: str) -> str:
    """Return what a file is shown as in the asset graph."""
    from granary.readers.files.formats import by_name

    found, _ = by_name(location)
    return type(found).__name__.lower() if found else "file"
