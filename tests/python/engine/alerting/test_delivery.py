"""What is told arrives: whatever receivers do, and whenever a process is killed, nothing is lost and nothing is new."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from granary.alerting import formats, queue, senders, watch
from granary.alerting.config import Channel, Config
from granary.alerting.message import sample
from granary.streams import signatures
from granary.warehouse.errors import GranaryError
from tests.python.engine.alerting.conftest import NOW, loaded, run, to_chat
from tests.python.engine.alerting.test_incidents import QUIET
from tests.python.support.receivers import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from granary.warehouse.settings import Settings
    from tests.python.support.receivers import Receiver

    Ask = Callable[..., list[tuple[Any, ...]]]

STATE = "select attempts, sent_at is not null, extract(epoch from due_at - $1)::int, error from ops.alerts order by 1"


@pytest.fixture
def failing(watched: Settings) -> Settings:
    """Return a warehouse in which something is wrong that nobody was told yet."""
    loaded(watched, "receipts", "failed", NOW, "below its floor of 50%")
    watch.once(watched, replace(to_chat(), rules=QUIET.rules), now=NOW, deliver=False)
    return watched


def test_it_is_told_once(failing: Settings, chat: Config, receiver: Receiver, ask: Ask) -> None:
    assert queue.deliver(failing, chat, now=NOW) == 1
    assert queue.deliver(failing, chat, now=NOW) == 0
    (body,) = receiver.bodies
    assert body["text"] == "[warning] New: till.receipts cannot be loaded"
    assert receiver.keys == [ask("select key from ops.alerts")[0][0]]
    assert receiver.keys[0] in json.dumps(body)
    assert ask(STATE, NOW) == [(1, True, 0, None)]


@pytest.mark.parametrize(
    ("answer", "wait", "error"),
    [
        ((500, {}), 15, "127.0.0.1 answered 500 (channel chat)"),
        ((429, {"Retry-After": "120"}), 120, "127.0.0.1 answered 429 (channel chat)"),
        ((429, {"Retry-After": "999999"}), 3600, "127.0.0.1 answered 429 (channel chat)"),
        ((503, {"Retry-After": "soon"}), 15, "127.0.0.1 answered 503 (channel chat)"),
        ((404, {}), 15, "127.0.0.1 answered 404 (channel chat); check THE_CHAT"),
        ((302, {"Location": "http://elsewhere.example"}), 15, "127.0.0.1 answered 302 (channel chat); check THE_CHAT"),
    ],
)
def test_what_is_not_taken_is_told_again(
    failing: Settings,
    chat: Config,
    receiver: Receiver,
    ask: Ask,
    answer: tuple[int, dict[str, str]],
    wait: int,
    error: str,
) -> None:
    receiver.answers = [answer]
    assert queue.deliver(failing, chat, now=NOW) == 0
    assert ask(STATE, NOW) == [(1, False, wait, error)]
    (left,) = queue.waiting(failing)
    assert (left.channel, left.alerts, left.error) == ("chat", 1, error)
    assert queue.deliver(failing, chat, now=NOW + timedelta(seconds=wait - 1)) == 0
    assert len(receiver.taken) == 1
    assert queue.deliver(failing, chat, now=NOW + timedelta(seconds=wait)) == 1
    assert receiver.keys[0] == receiver.keys[1]


def test_each_failure_doubles_the_wait_up_to_an_hour(
    failing: Settings, chat: Config, receiver: Receiver, ask: Ask
) -> None:
    at, waits = NOW, []
    for _ in range(10):
        receiver.answers = [(500, {})]
        assert queue.deliver(failing, chat, now=at) == 0
        waits.append(ask(STATE, at)[0][2])
        at += timedelta(seconds=waits[-1])
    assert waits == [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_a_slow_receiver_is_not_waited_for(
    failing: Settings, chat: Config, receiver: Receiver, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "ANSWER_SECONDS", 0.1)
    receiver.answers = [(SILENT, {})]
    assert queue.deliver(failing, chat, now=NOW) == 0
    assert ask(STATE, NOW)[0][3] == "127.0.0.1 does not answer in time (channel chat)"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "127.0.0.1 cannot be reached (ConnectionError) (channel chat); check THE_CHAT"),
        ("hooks.example.com/s3cr3t", "THE_CHAT holds no address of the web (channel chat); write https://…"),
        ("http://hooks.example.com/s3cr3t", "THE_CHAT holds an address without TLS (channel chat)"),
        ("", "THE_CHAT is not set"),
    ],
)
def test_a_receiver_that_is_down_or_wrong_loses_nothing_and_no_secret_is_told(
    failing: Settings, chat: Config, ask: Ask, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("THE_CHAT", url)
    assert queue.deliver(failing, chat, now=NOW) == 0
    ((attempts, is_sent, wait, error),) = ask(STATE, NOW)
    assert (attempts, is_sent, wait) == (1, False, 15)
    assert error.startswith(said)
    assert "s3cr3t" not in error


def test_a_channel_that_is_down_keeps_nobody_else_waiting(
    failing: Settings, receiver: Receiver, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOWN", "http://127.0.0.1:9")
    monkeypatch.setenv("THE_CHAT", receiver.url)
    run(failing, "update ops.alerts set channel = 'down'")
    insert = "insert into ops.alerts (incident_id, transition, channel, key, message, created_at, due_at)"
    for channel in ("down", "chat"):
        run(
            failing,
            f"{insert} select incident_id, 'updated', $1, $1 || '-2', message, created_at, due_at from ops.alerts"
            " where alert_id = 1",
            channel,
        )
    channels = {name: Channel(name, "slack", {"url": url}) for name, url in (("down", "DOWN"), ("chat", "THE_CHAT"))}
    assert queue.deliver(failing, Config(channels=channels), now=NOW) == 1
    assert receiver.keys == ["chat-2"] or len(receiver.taken) == 1
    # Of an incident the first is told first: the second was not tried.
    assert ask("select attempts from ops.alerts where channel = 'down' order by alert_id") == [(1,), (0,)]


def test_what_was_put_off_by_a_wrong_clock_is_due(failing: Settings, chat: Config, receiver: Receiver) -> None:
    run(failing, "update ops.alerts set due_at = due_at + interval '1 year'")
    assert queue.deliver(failing, chat, now=NOW) == 1
    assert len(receiver.taken) == 1


def test_two_processes_share_the_work(failing: Settings, chat: Config, receiver: Receiver, ask: Ask) -> None:
    """Who comes while another one sends passes that alert over."""
    taken: list[int] = []
    send = senders.send

    def while_another_looks(*given: Any) -> None:
        taken.append(len(queue_once()))
        send(*given)

    def queue_once() -> list[tuple[Any, ...]]:
        return ask(queue.TAKE, ["chat"], NOW, queue.LONGEST_WAIT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "send", while_another_looks)
        assert queue.deliver(failing, chat, now=NOW) == 1
    assert taken == [0]
    assert len(receiver.taken) == 1


FOLLOW = """
import sys
from granary.alerting import queue, config
from granary.warehouse.settings import Settings
queue.deliver(Settings.load(), config.Config(channels={"chat": config.Channel("chat", "slack", {"url": "THE_CHAT"})}))
"""


def test_killed_between_sending_and_its_commit_it_sends_again_with_the_same_key(
    failing: Settings, chat: Config, receiver: Receiver, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANARY_KILL_AT", "alert-sent")
    killed = subprocess.run([sys.executable, "-c", FOLLOW], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (len(receiver.taken), ask("select sent_at from ops.alerts")) == (1, [(None,)])
    assert queue.deliver(failing, chat) == 1
    assert len(receiver.taken) == 2
    assert len(set(receiver.keys)) == 1
    assert queue.deliver(failing, chat) == 0


def test_after_long_silence_a_channel_is_told_the_last_news_only(
    failing: Settings, receiver: Receiver, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_CHAT", "http://127.0.0.1:9")
    config = replace(to_chat(remind_after=timedelta(hours=1)), rules=QUIET.rules)
    for hours in range(1, 10):
        watch.once(failing, config, now=NOW + timedelta(hours=hours))
    loaded(failing, "receipts", "loaded", NOW)
    watch.once(failing, config, now=NOW + timedelta(hours=10))
    assert ask("select transition from ops.alerts order by alert_id") == [("opened",), ("escalated",), ("closed",)]
    monkeypatch.setenv("THE_CHAT", receiver.url)
    assert queue.deliver(failing, config, now=NOW + timedelta(hours=12)) == 3
    assert [body["text"].partition(":")[0] for body in receiver.bodies] == [
        "[warning] New",
        "[warning] Nobody has taken it up",
        "[warning] Over",
    ]


def test_a_webhook_is_signed(failing: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret of sixteen bytes and more"
    monkeypatch.setenv("THE_CHAT", receiver.url)
    monkeypatch.setenv("THE_SECRET", secret)
    hook = Channel("chat", "webhook", {"url": "THE_CHAT", "secret": "THE_SECRET"})
    assert queue.deliver(failing, Config(channels={"chat": hook}), now=NOW) == 1
    ((_, headers, body),) = receiver.taken
    signatures.verify(
        [secret], headers["granary-signature"], body, time.time(), headers["idempotency-key"]
    )  # by which Granary's own webhooks would take it
    told = json.loads(body)
    assert (told["cause"], told["severity"], told["transition"]) == ("till.receipts", "warning", "opened")
    assert secret not in body.decode()
    with pytest.raises(signatures.NotSignedError):
        signatures.verify([secret], headers["granary-signature"], body + b" ", time.time(), headers["idempotency-key"])


def test_a_file_has_each_once(failing: Settings, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "alerts.jsonl"
    config = Config(channels={"chat": Channel("chat", "file", {"path": str(path)})})
    assert queue.deliver(failing, config, now=NOW) == 1
    run(failing, "update ops.alerts set sent_at = null")  # as if it had been killed after the line was written
    assert queue.deliver(failing, config, now=NOW) == 1
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["key"] == ask("select key from ops.alerts")[0][0]
    run(failing, "update ops.alerts set sent_at = null")
    blocked = Config(channels={"chat": Channel("chat", "file", {"path": "/dev/null/alerts.jsonl"})})
    assert queue.deliver(failing, blocked, now=NOW) == 0
    assert ask("select error from ops.alerts")[0][0].startswith("its file cannot be written: ")


def test_alertmanager_is_told_the_same_alert_until_it_has_ended(
    watched: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_CHAT", receiver.url)
    manager = {"chat": Channel("chat", "alertmanager", {"url": "THE_CHAT"})}
    config = replace(to_chat(), rules=QUIET.rules, channels=manager)
    loaded(watched, "receipts", "failed", NOW, "no")
    watch.once(watched, config, now=NOW)
    loaded(watched, "receipts", "loaded", NOW)
    watch.once(watched, config, now=NOW + timedelta(hours=1))
    assert [path for path, _, _ in receiver.taken] == ["/api/v2/alerts"] * 2
    (first,), (last,) = receiver.bodies
    assert first["labels"] == last["labels"] == {"alertname": "GranaryIncident", "incident": "1", "service": "granary"}
    assert first["startsAt"] == last["startsAt"] == "2026-03-12T06:00:00+00:00"
    assert (first["endsAt"], last["endsAt"]) == ("2026-03-19T06:00:00+00:00", "2026-03-12T06:59:00+00:00")
    assert first["annotations"]["summary"] == "till.receipts cannot be loaded"


def test_teams_gets_a_card_and_slack_no_markup_of_others() -> None:
    told = replace(sample(NOW, Config()), title="a <b> & c")
    card = formats.teams(told)["attachments"][0]["content"]
    assert card["body"][0]["text"] == "[warning] Sample: a <b> & c"
    assert card["body"][1]["facts"][2] == {"title": "Owner", "value": "whoever runs the warehouse"}
    assert formats.slack(told)["text"] == "[warning] Sample: a &lt;b&gt; &amp; c"


def test_a_channel_that_is_no_more_keeps_its_alerts(failing: Settings, ask: Ask) -> None:
    assert queue.deliver(failing, Config(), now=NOW) == 0
    assert ask(STATE, NOW) == [(0, False, 0, None)]


def test_following_goes_on_whatever_happens(watched: Settings, chat: Config, receiver: Receiver) -> None:
    loaded(watched, "receipts", "failed", datetime.now(timezone.utc), "below its floor of 50%")
    stop, said = threading.Event(), list[object]()
    answers = iter([GranaryError("the file is wrong"), chat, chat])

    def config() -> Config:
        found = next(answers)
        if isinstance(found, GranaryError):
            raise found
        return replace(found, rules=QUIET.rules)

    def report(done: object) -> None:
        said.append(done)
        if len(said) == 3:
            stop.set()

    watch.follow(watched, config, stop, every=0, report=report)
    assert str(said[0]) == "the file is wrong"
    assert [one.sent for one in said[1:]] == [1, 0]  # type: ignore[attr-defined]
