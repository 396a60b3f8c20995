"""How each kind of channel has a message: one small formatter each."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.alerting.message import Message

COLOURS = {"critical": "attention", "warning": "warning"}
FIRING = timedelta(days=7)
"""For how long Alertmanager takes an alert as firing that it is not told of again; a reminder comes earlier."""

ASKEW = timedelta(minutes=1)
"""By how much its clock may be behind ours: an end that lies ahead of it does not count."""


def slack(message: Message) -> dict[str, Any]:
    """Return the body for an incoming webhook of Slack; text in which nothing is markup of ours but the labels."""
    lines = [f"*{label}:* {_escaped(words)}" for label, words in message.lines]
    head = _escaped(message.headline)
    return {
        "text": head,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*{head}*"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:3000]}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": f"key {message.key}"}]},
        ],
    }


def teams(message: Message) -> dict[str, Any]:
    """Return the body for a workflow of Teams: an adaptive card."""
    colour = "good" if message.transition == "closed" else COLOURS[message.severity]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": message.headline, "weight": "bolder", "wrap": True, "color": colour},
            {"type": "FactSet", "facts": [{"title": label, "value": words} for label, words in message.lines]},
            {"type": "TextBlock", "text": f"key {message.key}", "isSubtle": True, "size": "small"},
        ],
    }
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


def webhook(message: Message) -> dict[str, Any]:
    """Return the body for a program."""
    return {**message.dump(), "text": message.text}


def alertmanager(message: Message) -> list[dict[str, Any]]:
    """Return the body for Alertmanager: the same alert each time, known by its labels, until it has ended."""
    since = datetime.fromisoformat(message.since)
    at = datetime.fromisoformat(message.at)
    ends = max(since, at - ASKEW) if message.transition == "closed" else at + FIRING
    labels = {"alertname": "GranaryIncident", "incident": str(message.incident_id), "service": "granary"}
    annotations = {
        "summary": message.title,
        "description": message.text,
        "runbook": message.runbook,
        "severity": message.severity,
        "owner": message.owner,
        "cause": message.cause,
    }
    return [
        {
            "labels": labels,
            "annotations": annotations,
            "startsAt": since.isoformat(),
            "endsAt": ends.isoformat(),
        }
    ]


def mail(message: Message, sender: str, to: Iterable[str], domain: str = "granary") -> EmailMessage:
    """Return the mail; all about one incident are one conversation."""
    made = EmailMessage()
    made["Subject"] = f"{message.headline}"
    made["From"], made["To"] = sender, ", ".join(to)
    made["Date"] = format_datetime(datetime.fromisoformat(message.at).astimezone(timezone.utc))
    made["Message-ID"] = f"<{message.key}@{domain}>"
    made["References"] = f"<incident-{message.incident_id}@{domain}>"
    made["Auto-Submitted"] = "auto-generated"
    made["X-Granary-Key"] = message.key
    made.set_content(message.text.replace("`", "") + "\n")
    return made


def line(message: Message) -> str:
    """Return the line of a file."""
    return json.dumps(webhook(message), ensure_ascii=False)


def _escaped(text: str) -> str:
    """Return text with the three characters written out that Slack asks for."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
