"""The HTTP client: what it repeats, how long it waits, how much it reads, and to whom it shows its secrets."""

from __future__ import annotations

import base64
import gzip
import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
import requests
from urllib3.exceptions import NewConnectionError

from granary.readers.api.exchange import failure_words
from granary.readers.api.http import Client, backoff, conditions, retry_after, validator
from granary.readers.api.messages import Call
from granary.readers.api.spec import Api, ApiKey, Basic, OAuth2
from granary.warehouse.errors import GranaryError
from tests.python.engine.apis.conftest import Reply, Request, Service, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "s3cret/ü+&="


def get(service: Service, path: str = "/x", *params: tuple[str, str], **limits: Any) -> bytes:
    return Client(Api(service.url, **limits)).ask(Call(service.url + path, params)).body


# -- what is sent again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(service: Service, status: int) -> None:
    service.routes["/x"] = lambda r: Reply({}, status) if r.number < 3 else [1]
    assert get(service) == b"[1]"
    assert len(service.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 501])
def test_what_will_not_pass_is_not(service: Service, status: int) -> None:
    service.routes["/x"] = lambda _: Reply({}, status)
    with pytest.raises(GranaryError, match=str(status)):
        get(service)
    assert len(service.asked) == 1


def test_an_answer_that_breaks_off_is_fetched_again(service: Service) -> None:
    service.routes["/x"] = lambda r: Reply([1, 2, 3], length=100) if r.number == 1 else [1, 2, 3]
    assert get(service) == b"[1, 2, 3]"
    assert len(service.asked) == 2


def test_attempts_end(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply({}, 503)
    with pytest.raises(GranaryError, match="the service answered 503"):
        get(service, attempts=3)
    assert len(service.asked) == 3


def test_waits_double_and_are_drawn_by_lot() -> None:
    for attempt, bound in ((1, 0.01), (2, 0.02), (3, 0.04), (9, 0.05)):
        waits = [backoff(attempt, 0.05) for _ in range(300)]
        assert 0 <= min(waits) < bound / 4
        assert bound * 3 / 4 < max(waits) <= bound


# -- how long it waits -------------------------------------------------------------------------------------------------


def test_retry_after_in_seconds_is_waited_out(service: Service) -> None:
    service.routes["/x"] = lambda r: Reply({}, 429, {"Retry-After": "1"}) if r.number == 1 else [1]
    began = time.monotonic()
    get(service)
    assert 1.0 <= time.monotonic() - began < 1.9


def test_retry_after_as_a_date_is_counted_by_the_clock_of_the_service() -> None:
    now = datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone.utc)  # a clock that is wrong by years
    later = format_datetime(now + timedelta(seconds=7), usegmt=True)
    assert retry_after({"Retry-After": later, "Date": format_datetime(now, usegmt=True)}) == 7
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)
    assert 58 <= retry_after({"Retry-After": soon}) <= 60
    assert retry_after({"Retry-After": "Sun, 09 Sep 2001 01:46:40 GMT"}) == 0


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²"])
def test_retry_after_that_says_nothing(value: str) -> None:
    assert retry_after({"Retry-After": value}) == 0


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_too_long_is_refused(service: Service, status: int) -> None:
    service.routes["/x"] = lambda _: Reply({}, status, {"Retry-After": "31"})
    with pytest.raises(GranaryError, match="the service asks us to wait 31 s"):
        get(service)
    assert len(service.asked) == 1


def test_the_declared_rate_is_kept(service: Service) -> None:
    times: list[float] = []
    service.routes["/x"] = lambda _: times.append(time.monotonic()) or [1]
    client = Client(Api(service.url, rate=20))
    for _ in range(5):
        client.ask(Call(f"{service.url}/x"))
    assert times[-1] - times[0] >= 4 / 20 * 0.95


# -- how much it reads -------------------------------------------------------------------------------------------------


def test_an_answer_without_end_is_cut_off_while_it_is_read(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply(pieces=repeat(b" " * 65536))
    with pytest.raises(GranaryError, match="the answer is larger than 1,000,000 bytes"):
        get(service, max_bytes=1_000_000)
    assert service.gone.wait(10)
    assert len(service.asked) == 1


def test_a_bomb_is_not_unpacked(service: Service) -> None:
    bomb = zipped(b" " * 50_000_000)
    assert len(bomb.body) < 100_000
    service.routes["/x"] = lambda _: bomb
    with pytest.raises(GranaryError, match="the answer is larger than 1,000,000 bytes"):
        get(service, max_bytes=1_000_000)


def test_a_bomb_in_a_bomb_is_not_unpacked(service: Service) -> None:
    twice = gzip.compress(zipped(b" " * 10_000_000).body)
    service.routes["/x"] = lambda _: Reply(twice, headers={"Content-Encoding": "gzip, gzip"})
    with pytest.raises(GranaryError, match="the answer is larger than 1,000,000 bytes"):
        get(service, max_bytes=1_000_000)


def test_damaged_compression(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply(b"\x1f\x8b\x08 no", headers={"Content-Encoding": "gzip"})
    with pytest.raises(GranaryError, match="the answer's compression is damaged"):
        get(service)


def test_an_answer_that_drips_has_a_deadline(service: Service) -> None:
    def drip() -> Any:
        while not service.gone.wait(0.02):
            yield b" "

    service.routes["/x"] = lambda _: Reply(pieces=drip())
    with pytest.raises(GranaryError, match=r"the answer takes longer than 0\.3 s"):
        get(service, deadline=0.3)
    service.gone.set()


@pytest.mark.parametrize("announced", [b"", b"200 OK\r\nContent-Length: 100000\r\n\r\n", b"200 OK\r\nX: "])
def test_bytes_that_drip_do_not_put_the_deadline_off(announced: bytes) -> None:
    """A timeout starts anew with each byte: in the status line, in the headers, or in a body of a known length."""
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection = listening.accept()[0]
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 " + announced)
            while not over.wait(0.02):
                connection.sendall(b"1")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(GranaryError, match=r"the answer takes longer than 0\.3 s \(.*/x, page 7\)"):
            Client(Api(url, deadline=0.3)).ask(Call(f"{url}/x", part="page 7"))
        assert time.monotonic() - began < 5
        over.set()
        thread.join()


def test_ctrl_c_ends_the_wait_at_once(service: Service) -> None:
    service.routes["/x"] = lambda _: service.gone.wait(30)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressed = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        began = time.monotonic()
        pressed.start()
        with pytest.raises(KeyboardInterrupt):
            get(service, timeout=30, deadline=30)
        assert time.monotonic() - began < 10
    finally:
        pressed.join()
        signal.signal(signal.SIGINT, before)
        service.gone.set()


def test_failures_are_told_in_words() -> None:
    """No name of an exception, and no query, which may hold a secret."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"

        def hang_up() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(GranaryError) as closed:
            Client(Api(url, attempts=1)).ask(Call(url, (("page", SECRET),)))
        thread.join()
    with pytest.raises(GranaryError) as refused:
        Client(Api(url, attempts=1)).ask(Call(url, part="page 3"))
    assert closed.value.what == "the service does not answer: the connection was interrupted"
    assert closed.value.where == url
    assert (refused.value.what, refused.value.where) == (
        "the service does not answer: it refuses the connection",
        f"{url}, page 3",
    )
    unknown = requests.ConnectionError(NewConnectionError(object(), "http://h?key=secret"))  # type: ignore[arg-type]
    unknown.__context__ = socket.gaierror(-2, "Name or service not known")
    assert failure_words(unknown, 10) == "the service does not answer: its host is not known"


def test_an_answer_that_always_breaks_off(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply([1, 2, 3], length=100)
    with pytest.raises(GranaryError, match=r"^the answer was interrupted, 2 times \(http://127\.0\.0\.1:\d+/x\)"):
        get(service, attempts=2)


def test_a_service_that_says_nothing_times_out(service: Service) -> None:
    service.routes["/x"] = lambda _: service.gone.wait(5)
    with pytest.raises(GranaryError, match=r"does not answer: it sent nothing for 0\.1 s, 2 times"):
        get(service, timeout=0.1, attempts=2)
    assert len(service.asked) == 2
    service.gone.set()


# -- where it goes -----------------------------------------------------------------------------------------------------


def test_redirects_within_the_service_are_followed(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply(b"", 301, {"Location": "/y?z=1"})
    service.routes["/y"] = lambda r: [r.query, r.headers["X-Api-Key"]]
    assert get(service, "/x", auth=ApiKey("X-Api-Key", "k")) == b'[{"z": "1"}, "k"]'


def test_redirects_in_a_circle_end(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply(b"", 302, {"Location": "/x"})
    with pytest.raises(GranaryError, match="redirects more than 5 times"):
        get(service)
    assert len(service.asked) == 6


@pytest.mark.parametrize(
    "auth", [ApiKey("X-Api-Key", SECRET.replace("ü", "")), ApiKey("key", SECRET, place="query"), Basic("user", SECRET)]
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_credentials_do_not_follow_a_redirect_elsewhere(
    service: Service, make_service: Callable[[], Service], auth: Any, status: int
) -> None:
    other = make_service()  # another port is another origin
    service.routes["/x"] = lambda _: Reply(b"", status, {"Location": f"{other.url}/x"})
    with pytest.raises(GranaryError, match="our credentials are not sent") as caught:
        get(service, auth=auth)
    assert other.asked == []
    assert SECRET[:6] not in str(caught.value)


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1\\@evil/", "https://user:pw@127.0.0.1/", "ftp://127.0.0.1/", "http://a b/", "//evil/x"]
)
def test_a_link_that_is_not_ours_is_refused(service: Service, link: str) -> None:
    with pytest.raises(GranaryError, match=r"link that we do not follow|credentials are not sent"):
        Client(Api(service.url)).link(f"{service.url}/x", link, "here")


def test_a_query_by_post_is_not_redirected(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply(b"", 307, {"Location": "/y"})
    with pytest.raises(GranaryError, match="the service answered 307"):
        Client(Api(service.url)).ask(Call(f"{service.url}/x", data=b"{}"))


# -- who we are --------------------------------------------------------------------------------------------------------


def test_a_key_in_the_query_stays_out_of_logs_and_errors(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("urllib3.connectionpool"), "level", logging.NOTSET)
    service.routes["/x"] = lambda r: [1] if r.query == {"a": "b c", "key": SECRET} else Reply({}, 403)
    auth = ApiKey("key", SECRET, place="query")
    assert get(service, "/x", ("a", "b c"), auth=auth) == b"[1]"
    with pytest.raises(GranaryError, match=r"the service refuses our key \(403\)") as caught:
        get(service, "/x", ("a", "other"), auth=auth)
    with pytest.raises(GranaryError, match="does not answer") as down:
        Client(Api("http://127.0.0.1:1", auth=auth, attempts=1)).ask(Call("http://127.0.0.1:1/x"))
    for text in (str(caught.value), str(down.value), caplog.text, repr(auth), repr(Api("http://h", auth=auth))):
        assert "s3cret" not in text


def test_basic(service: Service) -> None:
    expected = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
    service.routes["/x"] = lambda r: [1] if r.headers.get("Authorization") == expected else Reply({}, 401)
    assert get(service, auth=Basic("user", SECRET)) == b"[1]"
    with pytest.raises(GranaryError, match=r"the service refuses our password \(401\)"):
        get(service, auth=Basic("user", "other"))


def test_a_netrc_file_is_not_asked(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password private\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.routes["/x"] = lambda r: [r.headers.get("Authorization"), r.headers.get("X-Api-Key")]
    assert get(service) == b"[null, null]"
    assert get(service, auth=ApiKey("X-Api-Key", "k")) == b'[null, "k"]'


class Tokens:
    """An OAuth2 server: hands out t1, t2, … and knows which of them are good."""

    def __init__(self, service: Service, **answer: Any) -> None:
        self.service, self.good, self.answer = service, set[str](), {"expires_in": 3600} | answer
        service.routes["/token"] = self.token

    @property
    def url(self) -> str:
        return f"{self.service.url}/token"

    def token(self, request: Request) -> Reply:
        client = base64.b64decode(request.headers.get("Authorization", "Basic Og==").split()[1]).decode()
        sent = client if client != ":" else f"{request.form.get('client_id')}:{request.form.get('client_secret')}"
        known = sent in ("granary:s3cret%2F%C3%BC%2B%26%3D", f"granary:{SECRET}")
        if request.method != "POST" or not known or request.form.get("grant_type") != "client_credentials":
            return Reply({"error": "invalid_client", "error_description": SECRET}, 401)
        token = f"t{request.number}"
        self.good.add(token)
        return Reply({"access_token": token, "token_type": "Bearer"} | self.answer)

    def guarded(self, request: Request) -> Any:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return [token] if token in self.good else Reply({}, 401)


@pytest.fixture
def tokens(make_service: Callable[[], Service], service: Service) -> Tokens:
    """Return an OAuth2 server, another origin than the service that it guards."""
    made = Tokens(make_service())
    service.routes["/x"] = made.guarded
    return made


def clientele(service: Service, tokens: Tokens, **options: Any) -> Client:
    auth = OAuth2(tokens.url, **({"client_id": "granary", "secret": SECRET, "scope": "read"} | options))
    return Client(Api(service.url, auth=auth, attempts=3))


@pytest.mark.parametrize("style", ["header", "body"])
def test_a_token_is_fetched_once(service: Service, tokens: Tokens, style: str) -> None:
    client = clientele(service, tokens, style=style)
    for _ in range(3):
        assert client.ask(Call(f"{service.url}/x")).body == b'["t1"]'
    assert [request.form.get("scope") for request in tokens.service.asked] == ["read"]


def test_a_token_that_expires_is_renewed_before(service: Service, tokens: Tokens) -> None:
    tokens.answer["expires_in"] = 0
    client = clientele(service, tokens)
    assert [client.ask(Call(f"{service.url}/x")).body for _ in range(2)] == [b'["t1"]', b'["t2"]']
    assert len(service.asked) == 2


def test_a_token_that_is_withdrawn_is_renewed_once(service: Service, tokens: Tokens) -> None:
    client = clientele(service, tokens)
    client.ask(Call(f"{service.url}/x"))
    tokens.good.clear()
    assert client.ask(Call(f"{service.url}/x")).body == b'["t2"]'
    service.routes["/x"] = lambda _: Reply({}, 401)
    with pytest.raises(GranaryError, match=r"the service refuses our token \(401\)"):
        client.ask(Call(f"{service.url}/x"))
    assert len(tokens.service.asked) == 3


def test_a_token_endpoint_that_fails_for_a_moment(service: Service, tokens: Tokens) -> None:
    tokens.service.routes["/token"] = lambda r: Reply({}, 503) if r.number < 3 else tokens.token(r)
    assert clientele(service, tokens).ask(Call(f"{service.url}/x")).body == b'["t3"]'


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply({"error": "invalid_client"}, 401), r"the token endpoint denies access \(401, invalid_client\)"),
        (Reply({"error": "<script>"}, 400), r"the token endpoint denies access \(400\)"),
        (Reply(b"<html>", 404), r"the token endpoint denies access \(404\)"),
        (Reply({}, 500), r"the token endpoint denies access \(500\)"),
        (Reply({}), "the token endpoint answered with no bearer token"),
        (Reply([1]), "the token endpoint answered with no bearer token"),
        (Reply({"access_token": "a\r\nX-Evil: 1"}), "the token endpoint answered with no bearer token"),
        (Reply({"access_token": "t", "token_type": "mac"}), "the token endpoint answered with no bearer token"),
        (Reply(b" " * 2**21), "the answer is larger than 1,048,576 bytes"),
        (Reply(b"", 307, {"Location": "http://127.0.0.1:1/"}), r"the token endpoint denies access \(307\)"),
    ],
)
def test_a_token_endpoint_that_fails(service: Service, tokens: Tokens, reply: Reply, words: str) -> None:
    tokens.service.routes["/token"] = lambda _: reply
    with pytest.raises(GranaryError, match=words) as caught:
        clientele(service, tokens).ask(Call(f"{service.url}/x"))
    assert "s3cret" not in str(caught.value)
    assert service.asked == []


def test_wrong_client_credentials_are_not_shown(service: Service, tokens: Tokens) -> None:
    with pytest.raises(GranaryError, match="invalid_client") as caught:
        clientele(service, tokens, secret="s3cret-other").ask(Call(f"{service.url}/x"))
    assert "s3cret" not in str(caught.value) + repr(OAuth2("http://h/t", "id", SECRET))


# -- what tells that nothing changed -----------------------------------------------------------------------------------

DATE = "Mon, 06 Mar 2017 12:00:10 GMT"


@pytest.mark.parametrize(
    ("headers", "version", "condition"),
    [
        ({"ETag": '"a b"'}, 'etag "a b"', (("If-None-Match", '"a b"'),)),
        ({"ETag": 'W/"1"', "Last-Modified": DATE}, 'etag W/"1"', (("If-None-Match", 'W/"1"'),)),
        (
            {"Last-Modified": "Mon, 06 Mar 2017 12:00:00 GMT", "Date": DATE},
            "modified Mon, 06 Mar 2017 12:00:00 GMT",
            (("If-Modified-Since", "Mon, 06 Mar 2017 12:00:00 GMT"),),
        ),
        ({"Last-Modified": DATE, "Date": DATE}, None, ()),  # it may change again within this second
        ({"Last-Modified": "Mon, 06 Mar 2017 12:00:00 GMT"}, None, ()),
        ({"Last-Modified": "yesterday", "Date": DATE}, None, ()),
        ({}, None, ()),
    ],
)
def test_validators(headers: dict[str, str], version: str | None, condition: tuple[tuple[str, str], ...]) -> None:
    assert validator(headers) == version
    assert conditions(version) == condition


def test_unchanged_without_being_asked_is_an_error(service: Service) -> None:
    service.routes["/x"] = lambda _: Reply(b"", 304)
    with pytest.raises(GranaryError, match="the service answered 304"):
        get(service)


@pytest.mark.parametrize(
    "url", ["ftp://h", "h/x", "http://u:p@h", "http://h\\@e", "http://h/a b", "http://h/\n", "http://"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="Api: url"):
        Api(url)


@pytest.mark.parametrize(
    "limits", [{"attempts": 0}, {"rate": 0}, {"max_bytes": -1}, {"timeout": 0}, {"longest_wait": -1}]
)
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Api: {next(iter(limits))} is 0? ?(or )?over"):
        Api("http://h", **limits)
