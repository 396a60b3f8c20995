"""JSON over HTTP: pages behind a key, with retries, rate limits and the traps of pagination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ingestion.checks import from_rows
from ingestion.spec import Chunk, Unit
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlt.sources.helpers.rest_client.client import RESTClient

    from ingestion.spec import Table

TIMEOUT_SECONDS = 10.0
ATTEMPTS = 5
LONGEST_WAIT_SECONDS = 30
PAGE_ROWS = 5000
ADVICE = "nothing of this load has landed; load again when the service is well"


@dataclass(frozen=True)
class Child:
    """A table that is delivered per parent, as in /campaigns/{campaign_id}/coupons."""

    parent: str
    key: str
    version: str


class RestReader:
    """Reads collections of one JSON API.

    `Table.location` is a path. Without a hole it is one collection, narrowed by `since` when there is a watermark.
    With a hole, "/v1/campaigns/{campaign_id}/coupons", it is a collection per parent: one unit each, which counts
    as changed when the parent's version does.
    """

    def __init__(self, url: str, key: str, *, since: str, child: Child) -> None:
        """Remember the service; the key is sent in the X-Api-Key header and never shown."""
        self.url, self.key, self.since, self.child = url.rstrip("/"), key, since, child

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the collection's window, or one unit per parent that the service shows."""
        if "{" not in table.location:
            return [Unit(f"{table.location}?{self.since}={watermark}" if watermark else table.location)]
        parents = [row for page in self._pages(self.child.parent, {}) for row in page]
        return [
            Unit(
                table.location.format_map({self.child.key: quote(str(row[self.child.key]), safe="")}),
                str(row[self.child.version]),
            )
            for row in sorted(parents, key=lambda row: (str(row[self.child.version]), row[self.child.key]))
        ]

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[Chunk]:
        """Yield the unit's rows, a chunk per page.

        Raises:
            GranaryError: the service refuses the key, fails for longer than the retries last, answers with something
                else than the agreed JSON, or its pages run in a circle.
        """
        whole = "{" in table.location
        path = unit.name if whole else table.location
        parameters = {self.since: watermark} if watermark and not whole else {}
        for page in self._pages(path, parameters):
            yield from_rows(table, page)

    def _pages(self, path: str, parameters: dict[str, str]) -> Iterator[list[Any]]:
        from requests import Response  # noqa: PLC0415 - with dlt, 2 s that only this kind of source pays
        from requests.exceptions import JSONDecodeError, RequestException  # noqa: PLC0415

        where = f"{self.url}{path}"
        seen: set[str] = set()
        previous: list[Any] = []

        def check(response: Response, *_: Any, **__: Any) -> None:
            wait = response.headers.get("Retry-After", "")
            if wait.isdigit() and int(wait) > LONGEST_WAIT_SECONDS:
                raise GranaryError(f"the service asks us to wait {wait} s", where, ADVICE)
            response.raise_for_status()
            body = response.json()
            if not isinstance(body, dict) or not isinstance(body.get("data"), list) or "next_page_token" not in body:
                raise GranaryError("the answer is not the agreed JSON (data, next_page_token)", where, ADVICE)
            token = body["next_page_token"]
            if token is not None and (str(token) in seen or seen.add(str(token))):  # type: ignore[func-returns-value]
                raise GranaryError("the pages run in a circle: a page token came twice", where, ADVICE)

        try:
            for page in self._client().paginate(
                path, params={**parameters, "page_size": PAGE_ROWS}, hooks={"response": [check]}
            ):
                if len(page) > 1 and page == previous:
                    raise GranaryError("the pages run in a circle: a page came twice", where, ADVICE)
                previous = list(page)
                yield previous
        except JSONDecodeError:
            raise GranaryError("the answer is no JSON", where, ADVICE) from None
        except RequestException as error:
            raise GranaryError(*_explain(error, where)) from None

    def _client(self) -> RESTClient:
        from dlt.sources.helpers.requests import Client  # noqa: PLC0415
        from dlt.sources.helpers.rest_client.auth import APIKeyAuth  # noqa: PLC0415
        from dlt.sources.helpers.rest_client.client import RESTClient  # noqa: PLC0415
        from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator  # noqa: PLC0415

        session = Client(
            request_timeout=TIMEOUT_SECONDS,
            request_max_attempts=ATTEMPTS,
            request_backoff_factor=0.5,
            request_max_retry_delay=LONGEST_WAIT_SECONDS,
            raise_for_status=False,
        ).session
        return RESTClient(
            base_url=self.url,
            auth=APIKeyAuth(name="X-Api-Key", api_key=self.key),
            paginator=JSONResponseCursorPaginator(cursor_path="next_page_token", cursor_param="page_token"),
            data_selector="data",
            session=session,
        )


def _explain(error: Any, where: str) -> tuple[str, str, str]:
    """Return what went wrong, where, and what to do, for a failed request."""
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return f"the service refuses our key ({status})", where, "check the source's key"
    if status == 429:  # noqa: PLR2004
        return "the service still limits our rate after every retry (429)", where, ADVICE
    if status is not None:
        return f"the service answered {status}", where, ADVICE
    return f"the service does not answer ({type(error).__name__})", where, ADVICE
