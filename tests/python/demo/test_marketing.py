"""The marketing API over real HTTP."""

from __future__ import annotations

import http.client
import json
import os
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from demo import data, environment, retailer
from demo.marketing import Marketing
from demo.rate import Limit, Meter
from demo.server import serving
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

KEY = "test-key"
PLENTY = Limit(per_second=1e6, burst=10**6)


class Client:
    """One connection that is kept alive."""

    def __init__(self, url: str, key: str | None = KEY) -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        self.headers = {} if key is None else {"X-Api-Key": key}

    def get(self, path: str, method: str = "GET") -> tuple[int, Any, http.client.HTTPResponse]:
        self.connection.request(method, path, headers=self.headers)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read()), response

    def all(self, path: str, size: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        token = ""
        while token is not None:
            status, page, _ = self.get(f"{path}?page_size={size}" + (f"&page_token={token}" if token else ""))
            assert status == 200
            assert 0 < len(page["data"]) <= size
            rows += page["data"]
            token = page["next_page_token"]
        return rows


class Today:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.day: date | None = date(2017, 12, 31)


@pytest.fixture(scope="module")
def today() -> Today:
    return Today()


@pytest.fixture(scope="module")
def url(today: Today) -> Iterator[str]:
    with serving(Marketing(data.installed(), lambda: today.day, KEY, PLENTY)) as address:
        yield address


@pytest.fixture
def client(url: str, today: Today) -> Client:
    today.day = date(2017, 12, 31)
    return Client(url)


@contextmanager
def limited(limit: Limit) -> Iterator[Client]:
    with serving(Marketing(data.installed(), lambda: date(2017, 12, 31), KEY, limit)) as address:
        yield Client(address)


@pytest.mark.parametrize("size", [1000, 5000])
def test_paging_gives_every_coupon_exactly_once(client: Client, size: int) -> None:
    rows = [row for n in range(1, 28) for row in client.all(f"/v1/campaigns/{n}/coupons", size)]
    real = data.installed().read("coupons").to_pylist()
    assert len(rows) == 116_204
    assert sorted(map(sorted, map(dict.items, rows))) == sorted(map(sorted, map(dict.items, real)))


def test_paging_gives_every_recipient_exactly_once(client: Client) -> None:
    rows = [row for n in range(1, 28) for row in client.all(f"/v1/campaigns/{n}/recipients", 100)]
    real = data.installed().read("campaigns").to_pylist()
    assert len(rows) == 6_589
    assert sorted(map(sorted, map(dict.items, rows))) == sorted(map(sorted, map(dict.items, real)))


def test_a_page_holds_a_thousand_rows_unless_asked(client: Client) -> None:
    _, page, _ = client.get("/v1/campaigns/13/coupons")
    assert len(page["data"]) == 1000
    _, page, _ = client.get("/v1/campaigns/13/coupons?page_size=5000")
    assert len(page["data"]) == 5000


def test_campaigns_in_full_and_in_the_order_in_which_they_appear(client: Client) -> None:
    rows = client.all("/v1/campaigns", 10)
    assert sorted(row["campaign_id"] for row in rows) == list(range(1, 28))
    stamps = [row["updated_at"] for row in rows]
    assert stamps == sorted(stamps)
    assert next(row for row in rows if row["campaign_id"] == 1) == {
        "campaign_id": 1,
        "campaign_type": "Type B",
        "start_date": "2017-03-03",
        "end_date": "2017-04-09",
        "updated_at": "2017-02-24T14:00:00Z",
    }


def test_updated_since_is_inclusive(client: Client) -> None:
    """Campaigns 21 and 22 both begin on 2017-12-06, and only campaign 23 later."""

    def since(instant: str) -> list[int]:
        _, page, _ = client.get(f"/v1/campaigns?updated_since={instant}")
        return [row["campaign_id"] for row in page["data"]]

    assert since("2017-11-29T14:00:00Z") == [21, 22, 23]
    assert since("2017-11-29T09:00:00-05:00") == [21, 22, 23]
    assert since("2017-11-29T14:00:01Z") == [23]
    assert since("2018-01-01T00:00:00Z") == []


def test_the_clock_hides_the_future(client: Client, today: Today) -> None:
    """Campaign 1 begins on 2017-03-03 and is prepared a week before, on 2017-02-24."""
    today.day = date(2017, 2, 23)
    assert client.get("/v1/campaigns/1/coupons")[0] == 404
    assert client.get("/v1/campaigns/1/recipients")[0] == 404
    assert {row["campaign_id"] for row in client.all("/v1/campaigns", 5)} == {24, 25, 26, 27}
    today.day = date(2017, 2, 24)
    assert client.get("/v1/campaigns/1/coupons")[0] == 200
    assert {row["campaign_id"] for row in client.all("/v1/campaigns", 5)} == {24, 25, 26, 27, 1}
    today.day = None
    assert client.get("/v1/campaigns")[1] == {"data": [], "next_page_token": None}


def test_a_campaign_that_appears_between_two_pages_is_on_the_last_one(client: Client, today: Today) -> None:
    today.day = date(2017, 2, 23)
    _, page, _ = client.get("/v1/campaigns?page_size=3")
    today.day = date(2017, 2, 24)
    _, rest, _ = client.get(f"/v1/campaigns?page_size=3&page_token={page['next_page_token']}")
    assert [row["campaign_id"] for row in page["data"] + rest["data"]] == [24, 25, 26, 27, 1]
    assert rest["next_page_token"] is None


@pytest.mark.parametrize("key", [None, "", "wrong", KEY + "x", "clé"])
def test_without_the_key_nothing_is_told(url: str, key: str | None) -> None:
    for path in ("/v1/campaigns", "/v1/campaigns/13/coupons", "/nothing"):
        status, answer, _ = Client(url, key).get(path)
        assert status == 401
        assert answer == {"error": "the header X-Api-Key is missing or wrong"}


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=5001",
        "page_size=-1",
        "page_size=ten",
        "page_size=",
        "page_size=10&page_size=20",
        "page_token=",
        "page_token=AAAA",
        "page_token=%C3%A9",
        "updated_since=yesterday",
        "updated_since=2017-01-01T00:00:00",
        "offset=10",
    ],
)
def test_a_wrong_question_is_a_400(client: Client, query: str) -> None:
    status, answer, _ = client.get(f"/v1/campaigns?{query}")
    assert status == 400
    assert set(answer) == {"error"}


def test_a_token_is_good_for_its_own_list_only(client: Client) -> None:
    token = client.get("/v1/campaigns/13/coupons?page_size=10")[1]["next_page_token"]
    assert client.get(f"/v1/campaigns/13/coupons?page_token={token}")[0] == 200
    assert client.get(f"/v1/campaigns/18/coupons?page_token={token}")[0] == 400
    assert client.get(f"/v1/campaigns?page_token={token}")[0] == 400
    since = "updated_since=2017-01-01T00:00:00Z"
    token = client.get(f"/v1/campaigns?page_size=2&{since}")[1]["next_page_token"]
    assert client.get(f"/v1/campaigns?page_token={token}")[0] == 400
    assert client.get(f"/v1/campaigns?page_token={token}&{since}")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/v1/campaigns/", "/v1/campaigns/28/coupons", "/v1/campaigns/1/people", "/v2/campaigns"]
)
def test_what_is_not_there_is_a_404(client: Client, path: str) -> None:
    assert client.get(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_can_only_be_read(client: Client, method: str) -> None:
    status, answer, response = client.get("/v1/campaigns", method)
    assert (status, response.headers["Allow"]) == (405, "GET")
    assert answer == {"error": f"{method} is not allowed"}


def test_a_connection_is_kept_alive_through_errors(client: Client) -> None:
    client.get("/v1/campaigns")
    socket = client.connection.sock
    assert socket is not None
    for path in ("/nothing", "/v1/campaigns?page_size=0", "/v1/campaigns"):
        client.get(path)
        assert client.connection.sock is socket


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    with limited(Limit(per_second=0.01, burst=2)) as client:
        assert [client.get("/v1/campaigns")[0] for _ in range(2)] == [200, 200]
        status, answer, response = client.get("/v1/campaigns")
        assert status == 429
        assert 99 <= int(response.headers["Retry-After"]) <= 100
        assert answer["error"].startswith("too many requests")
        client.headers = {"X-Api-Key": "wrong"}
        assert client.get("/v1/campaigns")[0] == 401


def test_a_bucket_fills_with_time_up_to_its_burst() -> None:
    now = [0.0]
    meter = Meter(Limit(per_second=2, burst=3), lambda: now[0])
    assert [meter.seconds_to_wait() for _ in range(4)] == [0, 0, 0, 1]
    now[0] = 0.5
    assert [meter.seconds_to_wait() for _ in range(2)] == [0, 1]
    now[0] = 60
    assert [meter.seconds_to_wait() for _ in range(4)] == [0, 0, 0, 1]


def test_it_listens_on_loopback_and_closes_with_its_connections() -> None:
    with limited(PLENTY) as client:
        assert client.connection.host == "127.0.0.1"
        assert client.get("/v1/campaigns")[0] == 200
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.get("/v1/campaigns")
    client.connection.close()
    with pytest.raises(ConnectionRefusedError):
        client.get("/v1/campaigns")


def test_unreadable_data_is_a_500_with_a_reason(tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = data.Data(tmp_path_factory.mktemp("empty"))
    with serving(Marketing(empty, lambda: date(2017, 12, 31), KEY, PLENTY)) as address:
        assert Client(address).get("/v1/campaigns")[:2] == (500, {"error": "a file of the sample data is missing"})


def test_the_retailer_serves_it_under_its_own_key_and_tells_the_environment(
    year: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(retailer.KEY, raising=False)
    monkeypatch.setenv(retailer.URL, "http://before")
    lines = dict(line.split("=", 1) for line in (year.home / "sources.env").read_text().splitlines())
    with retailer.systems(year) as address:
        assert os.environ[retailer.URL] == address
        assert len(Client(address, lines[retailer.KEY]).all("/v1/campaigns", 1000)) == 27
        assert Client(address).get("/v1/campaigns")[0] == 401
    assert os.environ[retailer.URL] == "http://before"


def test_a_retailer_without_a_key_serves_nothing(year: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(retailer.KEY, raising=False)
    monkeypatch.setattr(environment, "read", lambda _: {})
    with pytest.raises(GranaryError, match="GRANARY_MARKETING_KEY is not set"), retailer.systems(year):
        raise AssertionError("not reached")
