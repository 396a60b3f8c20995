"""Queries of a GraphQL API, page after page of a connection (docs/engine/sources/apis.md)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from granary.readers.api.collection import Since, Watch, decoded
from granary.readers.api.exchange import ADVICE
from granary.readers.api.http import Client, backoff
from granary.readers.api.messages import Call, shown
from granary.readers.api.nested import Nested, check_parts, collection_of, declared_for, tables_within
from granary.readers.api.pages import NotAgreedError, dig
from granary.readers.api.rows import Rows
from granary.sources import validation
from granary.sources.attempt import attempts, clock
from granary.sources.guarantees import Guarantees
from granary.sources.units import SourceBatch, Unit
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.readers.api.spec import Api
    from granary.sources.spec import Table
    from granary.warehouse.findings import Finding

__all__ = ["GraphqlReader", "Nested", "Query", "Since"]

THROTTLED = frozenset({"THROTTLED", "RATE_LIMITED", "RATE_LIMIT_EXCEEDED", "TOO_MANY_REQUESTS"})
"""`extensions.code` of errors that pass when we wait."""

NOISE = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*')
"""Strings and comments of the query language (GraphQL specification, section 2)."""


@dataclass(frozen=True)
class Query:
    """One query, whose answer has one list of rows.

    Attributes:
        path: what `Table.location` says of it.
        text: the query. It changes nothing at the service; mutations are refused here.
        rows: the dotted path below `data` of the rows: a list, or a connection (edges with a node, or nodes; and
            pageInfo with hasNextPage and endCursor), of which every page is read.
        variables: further variables.
        size: the variable for the size of a page, and the size.
        after: the variable for the cursor of the page before.
        since: the variable that narrows the query to what is new, for tables with a cursor.
    """

    path: str
    text: str = field(repr=False)
    rows: str
    variables: tuple[tuple[str, Any], ...] = ()
    size: tuple[str, int] | None = None
    after: str = "after"
    since: Since | None = None

    def __post_init__(self) -> None:
        """Check that it is one query, and that it declares the variables that we set."""
        validation.check(self, f"Query {self.path}", filled=("path", "text", "after"))
        if self.size and (not self.size[0] or self.size[1] < 1):
            raise ValueError(f"Query {self.path}: size is a variable and a number over 0, and not {self.size!r}")
        bare = NOISE.sub(" ", self.text)
        depth, kinds = 0, []
        for word in re.findall(r"[{}()]|[A-Za-z_]\w*", bare):
            depth += (word in "{(") - (word in "})")
            if depth == 0 and word in ("query", "mutation", "subscription"):
                kinds.append(word)
        if [kind for kind in kinds if kind != "query"] or len(kinds) > 1:
            raise ValueError(f"{self.path}: only a query is sent, one at a time: it may have to be sent again")
        wanted = [name for name, _ in self.variables] + ([self.size[0]] if self.size else [])
        wanted += [self.since.param] if self.since else []
        if lacking := [name for name in wanted if not re.search(rf"\${name}\b", bare)]:
            raise ValueError(f"{self.path}: the query has no variable ${lacking[0]}")

    @property
    def pages(self) -> bool:
        """Whether the query can be asked for a later page."""
        return re.search(rf"\${self.after}\b", NOISE.sub(" ", self.text)) is not None


class GraphqlReader:
    """Reads the queries of one GraphQL API (its URL is the endpoint); `Table.location` is a query's path.

    A table without a cursor is one unit, new by nature; with one, the window past the watermark is. The lists and
    connections within rows can be tables of their own, as `Nested`.
    """

    guarantees = Guarantees(
        kind="GraphQL API",
        declared="GraphqlReader",
        command="granary load",
        exactly_once="yes, by key: a window is one transaction, and rows that come again are merged",
        deletes="in part: where a query is read whole (replace)",
        order="yes: as the pages come",
        lag="no: the newest cursor value that is loaded is shown",
        page="apis",
        proofs=("api",),
    )

    def __init__(self, api: Api, *queries: Query | Nested) -> None:
        """Remember what to read; nothing is asked yet."""
        check_parts("GraphqlReader", api, queries, Query)
        self.client = Client(api)
        self.queries = {query.path: query for query in queries}
        self._rows: dict[str, Rows] = {}

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the query's window.

        Raises:
            GranaryError: no query is declared for the table, or its rows would have nothing to replace.
        """
        query = collection_of(declared_for(table, self.queries), Query)
        if table.disposition == "replace_unit":
            raise GranaryError(
                f"{table.name} replaces units, and the answers of a query are none",
                table.location,
                "give it a key, and the disposition merge or replace",
            )
        if query.since and table.cursor and watermark:
            return [Unit(f"{table.location}?{query.since.param}={query.since.value(watermark)}")]
        return [Unit(table.location)]

    def examine(self, tables: Sequence[Table]) -> Iterator[Finding]:
        """Yield what is in the way of reading these tables, and the service's clock if it is not ours."""
        yield from attempts(self, tables)
        if self.client.clock:
            yield from clock(shown(self.client.api.url), *self.client.clock)

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the rows, a batch per page.

        Raises:
            GranaryError: the service fails or limits us for longer than the retries last, answers with errors (what
                data there is beside them is not taken) or with another shape, or its pages form a loop.
            ContractBrokenError: a column of the contract is in none of many rows.
        """
        declared = declared_for(table, self.queries)
        if table.name not in self._rows:
            tables = tables_within(declared, list(self.queries.values()))
            self._rows[table.name] = Rows(table, self.client.api.max_depth, tables)
        rows = self._rows[table.name]
        for page in self._pages(collection_of(declared, Query), table, watermark):
            if isinstance(declared, Nested):
                yield rows.source_batch([row for holder in page for row in declared.rows(holder)])
            else:
                yield rows.source_batch(page)
        rows.finish(f"{table.name}, {unit.name}")

    def _pages(self, query: Query, table: Table, watermark: str | None) -> Iterator[list[Any]]:
        variables: dict[str, Any] = dict(query.variables) | (dict([query.size]) if query.size else {})
        if query.since and table.cursor and watermark:
            variables[query.since.param] = query.since.value(watermark)
        watch, cursors = Watch(True), set[str]()
        for number in range(1, self.client.api.max_pages + 1):
            part = f"{query.path}, page {number}"
            where = Call(self.client.api.url, part=part).where
            try:
                rows, cursor = _page(self._ask(query, variables, part), query)
            except NotAgreedError as missing:
                raise GranaryError(f"the answer is not the agreed JSON: see {missing}", where, ADVICE) from None
            if cursor is not None and cursor in cursors:
                raise GranaryError("the pages form a loop: a cursor came twice", where, ADVICE)
            watch.see(rows, where)
            yield rows
            if cursor is None:
                return
            if number == self.client.api.max_pages:
                raise GranaryError(f"the query has more than {number:,} pages", where, "raise max_pages")
            cursors.add(cursor)
            variables[query.after] = cursor

    def _ask(self, query: Query, variables: dict[str, Any], part: str) -> Any:
        """Return an answer's `data`, which has no errors beside it; wait when the service says that we ask too much."""
        import orjson  # noqa: PLC0415 - only this kind of source pays for it

        api = self.client.api
        call = Call(api.url, data=orjson.dumps({"query": query.text, "variables": variables}), part=part)
        where = call.where
        for attempt in range(1, api.attempts + 1):
            answer = self.client.attempt(call)
            # Errors in a query are answered with 200 or with 400 (GraphQL over HTTP, draft of 2025, section 6).
            body = decoded(answer, where) if answer.status in (200, 400) else self.client.check(answer, call)
            errors = dig(body, "errors", None) if isinstance(body, dict) else None
            if not errors:
                self.client.check(answer, call)
                return dig(body, "data")
            codes = {str(dig(error, "extensions.code", "")) for error in errors}
            if not codes & THROTTLED:
                raise GranaryError(f"the query failed: {_words(errors)}", where, "correct the query, or its variables")
            wait = _restored(body) or backoff(attempt, api.longest_wait)
            if wait > api.longest_wait:
                raise GranaryError(f"the service asks us to wait {wait:.0f} s", where, "ask for smaller pages")
            if attempt < api.attempts:
                time.sleep(wait)
        raise GranaryError("the service still limits our rate after every retry (THROTTLED)", where, ADVICE)


def _page(data: Any, query: Query) -> tuple[list[Any], str | None]:
    """Return a page's rows, and the cursor for the next page, None at the end.

    Source: GraphQL Cursor Connections Specification (Relay), sections 3 to 5.

    Raises:
        NotAgreedError: there are no rows where they were agreed, or more than the query can ask for.
    """
    found = dig(data, query.rows)
    if isinstance(found, list):
        return found, None
    if not isinstance(found, dict) or ("nodes" not in found and "edges" not in found):
        raise NotAgreedError(query.rows)
    rows = found["nodes"] if "nodes" in found else [dig(edge, "node") for edge in found["edges"] or []]
    more = dig(found, "pageInfo.hasNextPage")
    if not isinstance(rows, list) or not isinstance(more, bool):
        raise NotAgreedError(query.rows)
    if not more:
        return rows, None
    cursor = dig(found, "pageInfo.endCursor")
    if not isinstance(cursor, str) or not query.pages:
        raise NotAgreedError(f"pageInfo.endCursor, and ${query.after} in the query")
    return rows, cursor


def _words(errors: Any) -> str:
    """Return the first error's message, short and in printable characters."""
    first = errors[0] if isinstance(errors, list) else errors
    message = str(dig(first, "message", "no message"))[:200]
    code = str(dig(first, "extensions.code", ""))[:40]
    words = "".join(letter if letter.isprintable() else " " for letter in message)
    return f"{words} ({code})" if code else words


def _restored(body: Any) -> float:
    """Return the seconds until a budget of query cost suffices again, 0 if the service tells nothing of one.

    Source: the `extensions.cost` of Shopify's Admin API, which others have taken over.
    """
    cost = dig(body, "extensions.cost", None)
    try:
        have, rate = dig(cost, "throttleStatus.currentlyAvailable"), dig(cost, "throttleStatus.restoreRate")
        return max(0.0, (float(dig(cost, "requestedQueryCost")) - float(have)) / float(rate))
    except (NotAgreedError, TypeError, ValueError, ZeroDivisionError):
        return 0.0
