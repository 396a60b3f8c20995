"""Mails, to a real mail server: by TLS, and in the clear only where somebody says so or nobody else can listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.alerting.config import Channel, Config
from granary.alerting.message import sample
from granary.alerting.senders import NotSentError, send
from granary.warehouse.settings import Settings
from tests.python.engine.alerting.conftest import NOW
from tests.python.support import receivers

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

SAMPLE = sample(NOW, Config())


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have localhost count as a machine elsewhere, whose connections others could listen to."""
    monkeypatch.setattr("granary.alerting.senders.is_here", lambda _: False)


def told(port: int, **more: Any) -> None:
    to = ["a@example.com", "b@example.com"]
    options = {"host": "localhost", "port": port, "from": "granary@example.com", "to": to}
    send(Settings.load(), Channel("duty", "email", {**options, **more}), SAMPLE)


def test_a_mail_comes_by_tls(tmp_path: Path) -> None:
    tls, authority = receivers.certificate(tmp_path)
    with receivers.mail(tls) as (port, mails):
        told(port, ca=authority)
    (mail,) = mails.taken
    assert mails.tls == [True]
    assert mail["Subject"] == "[warning] Sample: alerts reach you"
    assert (mail["To"], mail["From"]) == ("a@example.com, b@example.com", "granary@example.com")
    assert (mail["Message-ID"], mail["X-Granary-Key"]) == ("<sample@granary>", "sample")
    assert mail["Date"] == "Thu, 12 Mar 2026 06:00:00 +0000"
    assert "Owner: whoever runs the warehouse" in mail.get_content()


def test_a_login_needs_tls_and_the_right_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls, authority = receivers.certificate(tmp_path)
    monkeypatch.setenv("MAIL_PASSWORD", "s3cr3t")
    with receivers.mail(tls, password="s3cr3t") as (port, mails):
        told(port, ca=authority, user="granary", password="MAIL_PASSWORD")
        monkeypatch.setenv("MAIL_PASSWORD", "wr0ng")
        with pytest.raises(NotSentError, match="localhost answered 535") as refused:
            told(port, ca=authority, user="granary", password="MAIL_PASSWORD")
    assert len(mails.taken) == 1
    assert "wr0ng" not in str(refused.value)


def test_nothing_is_sent_in_the_clear_unless_that_is_said(somewhere: None) -> None:
    with receivers.mail() as (port, mails):
        with pytest.raises(NotSentError, match="localhost offers no TLS"):
            told(port)
        assert mails.taken == []
        told(port, plain=True)
    assert mails.tls == [False]


def test_a_password_is_never_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "s3cr3t")
    with receivers.mail() as (port, mails):
        with pytest.raises(NotSentError, match="offers no TLS"):
            told(port, plain=True, user="granary", password="MAIL_PASSWORD")
        told(port)  # to this machine itself, without a password
    assert len(mails.taken) == 1


def test_a_server_that_does_not_prove_who_it_is_gets_nothing(tmp_path: Path) -> None:
    tls, _ = receivers.certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, authority = receivers.certificate(other)
    with receivers.mail(tls) as (port, mails):
        for trusted in ({}, {"ca": authority}):
            with pytest.raises(NotSentError, match="localhost does not prove who it is"):
                told(port, **trusted)
    assert mails.taken == []


def test_a_server_that_is_down_says_so() -> None:
    with receivers.mail() as (port, _):
        pass
    with pytest.raises(NotSentError, match=r"localhost cannot be reached \(ConnectionRefusedError\)"):
        told(port)
