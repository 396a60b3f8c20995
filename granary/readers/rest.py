"""Collections of a JSON API over HTTP (docs/engine/sources/apis.md)."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from granary.readers.api.collection import Endpoint, Parent, Since, pages
from granary.readers.api.exchange import ADVICE
from granary.readers.api.http import Client, conditions, validator
from granary.readers.api.messages import shown
from granary.readers.api.nested import Nested, check_parts, collection_of, declared_for, tables_within
from granary.readers.api.pages import Cursor, LinkHeader, NextLink, NotAgreedError, Offset, Page, dig
from granary.readers.api.rows import Rows
from granary.readers.api.spec import Api, ApiKey, Basic, OAuth2
from granary.sources.attempt import attempts, clock
from granary.sources.guarantees import Guarantees
from granary.sources.units import SourceBatch, Unit
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from granary.readers.api.messages import Answer, Pairs
    from granary.sources.spec import Table
    from granary.warehouse.findings import Finding

__all__ = [
    "Api",
    "ApiKey",
    "Basic",
    "Cursor",
    "Endpoint",
    "LinkHeader",
    "Nested",
    "NextLink",
    "OAuth2",
    "Offset",
    "Page",
    "Parent",
    "RestReader",
    "Since",
]


class RestReader:
    """Reads the collections of one JSON API; `Table.location` is the path of an `Endpoint` or of a `Nested`.

    What is a unit:

    - a collection with a cursor: the window past the watermark, new by nature;
    - another collection: the whole of it, not read again while its validator says that it is unchanged;
    - a collection per parent (a hole in the path): one unit each, changed when the parent's version is;
    - a nested list that is replaced by unit: one unit per row that holds it, changed when the list is.
    """

    guarantees = Guarantees(
        kind="REST API",
        declared="RestReader",
        command="granary load",
        exactly_once="yes, by key: a collection or a window is one transaction, and rows that come again are merged",
        deletes="in part: where a collection is read whole (replace, replace_unit)",
        order="yes: as the pages come",
        lag="no: the newest cursor value that is loaded is shown",
        page="apis",
        proofs=("api",),
    )

    def __init__(self, api: Api, *endpoints: Endpoint | Nested) -> None:
        """Remember what to read; nothing is asked yet."""
        check_parts("RestReader", api, endpoints, Endpoint)
        self.client = Client(api)
        self.endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self.known: Mapping[str, str] = {}
        self._first: dict[str, Answer] = {}
        self._source_batches: dict[str, list[SourceBatch]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._rows: dict[str, Rows] = {}

    def use_fingerprints(self, known: Mapping[str, str]) -> None:
        """Take note of the fingerprints that units had when they were loaded, for conditional requests."""
        self.known = known

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the collection's window, the collection, or a unit per parent.

        Raises:
            GranaryError: as in `read`, since some of this is only known from the service's answers.
        """
        declared = declared_for(table, self.endpoints)
        root = collection_of(declared, Endpoint)
        if root.parent:
            return self._per_parent(table, root.parent)
        if isinstance(declared, Nested) and table.disposition == "replace_unit":
            return self._per_row(table, declared, watermark)
        if root.since and table.cursor:
            window = "&".join("=".join(pair) for pair in _narrowed(root, table, watermark))
            return [Unit(f"{table.location}?{window}" if window else table.location)]
        if table.disposition in ("merge", "append"):
            return [Unit(table.location)]
        return [self._whole(table, root)]

    def examine(self, tables: Sequence[Table]) -> Iterator[Finding]:
        """Yield what is in the way of reading these tables, and the service's clock if it is not ours."""
        yield from attempts(self, tables)
        if self.client.clock:
            yield from clock(shown(self.client.api.url), *self.client.clock)

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the unit's rows, a batch per page.

        Raises:
            GranaryError: the service denies access, fails for longer than the retries last, answers with something
                else than the agreed JSON, or its pages form a loop.
            ContractBrokenError: a column of the contract is in none of many rows.
        """
        if unit.name in self._source_batches:
            yield from self._source_batches.pop(unit.name)
            return
        yield from self._converted(table, unit.name, self._pages(table, unit.name, watermark))

    def _converted(self, table: Table, unit: str, arriving: Iterable[list[Any]]) -> Iterator[SourceBatch]:
        """Yield a batch per page, at least an empty one."""
        if table.name not in self._rows:
            tables = tables_within(declared_for(table, self.endpoints), list(self.endpoints.values()))
            self._rows[table.name] = Rows(table, self.client.api.max_depth, tables)
        rows, empty = self._rows[table.name], True
        for page in arriving:
            empty = False
            yield rows.source_batch(page)
        if empty:
            yield rows.source_batch([])
        rows.finish(f"{table.name}, {unit}")

    def _pages(self, table: Table, unit: str, watermark: str | None) -> Iterator[list[Any]]:
        declared = declared_for(table, self.endpoints)
        if unit in self._lists:
            yield self._lists.pop(unit)
            return
        root = collection_of(declared, Endpoint)
        path = unit.partition("#")[0] if root.parent else root.path
        call = root.call(self.client, path, _narrowed(root, table, watermark))
        unique = bool(table.key) or isinstance(declared, Nested)
        for page in pages(self.client, root, call, unique=unique, first=self._first.pop(unit, None)):
            yield [row for holder in page for row in declared.rows(holder)] if isinstance(declared, Nested) else page

    def _whole(self, table: Table, root: Endpoint) -> Unit:
        """Return a collection as one unit; ask for it only if it has changed, and keep the first answer to be read."""
        name = table.location
        if root.validated:
            known = self.known.get(name)
            condition = conditions(known)
            answer = self.client.ask(root.call(self.client, root.path, headers=condition))
            if answer.status == 304:  # noqa: PLR2004
                return Unit(name, known, version=known)
            self._first[name] = answer
            if version := validator(answer.headers):
                return Unit(name, version, version=version)
        if table.disposition == "replace":
            return Unit(name)
        # Rows without keys replace those of the earlier load, which is found by the unit's fingerprint.
        digest = sha256()

        def noted(page: list[Any]) -> list[Any]:
            digest.update(_bytes(page))
            return page

        arriving = map(noted, self._pages(table, name, None))
        self._source_batches[name] = list(self._converted(table, name, arriving))
        return Unit(name, digest.hexdigest())

    def _per_parent(self, table: Table, parent: Parent) -> list[Unit]:
        """Return a unit for each parent, the oldest version first."""
        root = parent.of
        where = self.client.api.at(root.path)
        found: dict[str, str] = {}  # a parent that comes on two pages is one unit
        for page in pages(self.client, root, root.call(self.client, root.path), unique=True):
            for row in page:
                key, version = _text_at(row, parent.key, where), _text_at(row, parent.version, where)
                if key in (".", "..", ""):
                    raise GranaryError(f"a parent's {parent.key} would lead to another path", where, ADVICE)
                found[table.location.replace(f"{{{parent.key}}}", quote(key, safe=""))] = version
        return [Unit(name, version) for name, version in sorted(found.items(), key=lambda unit: unit[1])]

    def _per_row(self, table: Table, nested: Nested, watermark: str | None) -> list[Unit]:
        """Return a unit for each row that holds the list; its members are kept until they are read."""
        root = collection_of(nested, Endpoint)
        column, path = nested.keys[0]
        where = self.client.api.at(root.path)
        call = root.call(self.client, root.path, _narrowed(root, table, watermark))
        for page in pages(self.client, root, call, unique=True):
            for holder in page:
                name = f"{table.location}?{column}={quote(_text_at(holder, path, where), safe='')}"
                self._lists[name] = list(nested.rows(holder))
        return [Unit(name, sha256(_bytes(rows)).hexdigest()) for name, rows in self._lists.items()]


def _text_at(row: Any, path: str, where: str) -> str:
    """Return a value without which a parent's unit cannot be named or watched."""
    try:
        value = dig(row, path)
    except NotAgreedError:
        value = None
    if value is None or isinstance(value, (dict, list)):
        raise GranaryError(f"a row has no {path}", where, ADVICE)
    return str(value)


def _narrowed(root: Endpoint, table: Table, watermark: str | None) -> Pairs:
    """Return the parameter that leaves out what has been read."""
    if root.since and table.cursor and watermark:
        return ((root.since.param, root.since.value(watermark)),)
    return ()


def _bytes(rows: list[Any]) -> bytes:
    return repr(rows).encode("utf-8", "surrogatepass")
