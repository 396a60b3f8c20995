"""`alerts.yml`: what it may say, and what is said of one that is wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from granary.alerting import config
from granary.alerting.policy import page
from granary.alerting.rules import RULES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
channels:
  chat: {kind: slack, url: THE_CHAT}
  duty: {kind: email, host: mail.example.com, from: g@example.com, to: [duty@example.com], user: g, password: MAIL}
  log: {kind: file, path: .granary/alerts.jsonl}
tell:
  critical: [chat, duty]
  warning: [chat]
owners:
  shops: log
rules:
  quarantine_growing: {threshold: 20, severity: critical}
  schema_change: off
escalate: {after: 2h, to: [duty]}
update_after: 30m
remind_after: 2d
runbooks: https://example.com/runbooks/
owner: Data engineering
"""


def read(folder: Path, text: str) -> config.Config:
    path = folder / "alerts.yml"
    path.write_text(text)
    return config.load(path)


def test_without_it_nobody_is_told_and_every_rule_holds(tmp_path: Path) -> None:
    found = config.load(tmp_path / "alerts.yml")
    assert (found.rules, found.told("critical", "shops")) == (RULES, ())
    assert read(tmp_path, "# nothing yet\n") == found


def test_what_it_says_is_so(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found.told("critical", "shops") == ("chat", "duty", "log")
    assert found.told("warning", "nobody") == ("chat",)
    assert found.told("warning", "nobody", escalated=True) == ("chat", "duty")
    assert found.channels["duty"].options["port"] == 587
    rules = {rule.kind: rule for rule in found.rules}
    assert (rules["quarantine_growing"].threshold, rules["quarantine_growing"].severity) == (20, "critical")
    assert "schema_change" not in rules
    assert len(rules) == len(RULES) - 1
    assert (found.escalate_after, found.update_after) == (timedelta(hours=2), timedelta(minutes=30))
    assert (found.remind_after, found.runbooks) == (timedelta(days=2), "https://example.com/runbooks")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channels: [", "it cannot be read"),
        ("- chat", "the file is list"),
        ("chanels: {}", "the file has 'chanels'; it may have|has 'chanels'.*it may have channels, tell, owners"),
        ("channels: {chat: {kind: irc}}", "channels.chat.kind is 'irc'.*slack, teams, webhook, alertmanager"),
        ("channels: {chat: {kind: slack}}", "channels.chat lacks url"),
        ("channels: {hook: {kind: webhook, url: HOOK}}", "channels.hook lacks secret"),
        ("channels: {chat: {kind: slack, url: A, retries: 3}}", "channels.chat has 'retries'"),
        ("channels: {chat: {kind: slack, url: A, plain: maybe}}", "channels.chat.plain is neither"),
        ("channels: {m: {kind: email, host: h, from: a@b, to: nobody}}", "channels.m.to is no address"),
        ("channels: {m: {kind: email, host: h, from: a@b, to: []}}", "channels.m.to is no address"),
        ("channels: {m: {kind: email, host: h, from: a@b, to: a@b, port: smtp}}", "channels.m.port is 'smtp'"),
        ("channels: {m: {kind: email, host: h, from: a@b, to: a@b, user: x}}", "one of user and password"),
        ("tell: {critical: [chat]}", r"tell.critical has 'chat'.*none of the channels \(none\)"),
        ("tell: {grave: []}", "tell has 'grave'.*warning, critical"),
        ("tell: {warning: 3}", "tell.warning is no list of channels"),
        ("owners: {shops: [chat]}", "owners.shops has 'chat'"),
        ("rules: {lateness: off}", "rules has 'lateness'.*load_failed"),
        ("rules: {disk_full: {threshold: ten}}", "rules.disk_full.threshold is 'ten'"),
        ("rules: {disk_full: {threshold: -1}}", "rules.disk_full.threshold is -1"),
        ("rules: {source_late: {threshold: 3}}", "rules.source_late has no threshold"),
        ("rules: {disk_full: {severity: grave}}", "rules.disk_full.severity is 'grave'"),
        ("escalate: {after: soon}", "escalate.after is 'soon'.*30m, 4h or 2d"),
        ("remind_after: 0h", "remind_after is '0h'"),
        ("owner: ''", "owner is ''"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GranaryError, match=said) as refused:
        read(tmp_path, text)
    assert str(tmp_path / "alerts.yml") in str(refused.value)


def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(GranaryError, match=r"channels\.chat\.url is no name of a variable") as refused:
        read(tmp_path, "channels: {chat: {kind: slack, url: 'https://hooks.example.com/T0/B0/s3cr3t'}}")
    assert "s3cr3t" not in str(refused.value)


def test_the_page_says_who_is_told_what_when(tmp_path: Path) -> None:
    text = page(read(tmp_path, WHOLE))
    assert "| duty | e-mail | duty@example.com | critical incidents, what nobody takes up |" in text
    assert "| log | file | `.granary/alerts.jsonl` | what is of shops |" in text
    assert "- What is new of an incident is told after 30 minutes; that it is graver or back, at once." in text
    assert "- After 2 hours in which nobody has taken it up (`granary incidents ack`) duty is told, too." in text
    assert (
        "| …: rows are refused (`quarantine_growing`) | N rows in the last 24 hours, over 20 | critical | chat, duty |"
        " [quarantine](https://example.com/runbooks/quarantine.md) |"
    ) in text
    assert "schema_change" not in text
    assert "Nobody: there is no channel." in page(config.Config())
