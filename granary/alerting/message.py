"""What is told of an incident, in plain words; each channel makes its own form of it (granary/alerting/formats.py)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from granary.alerting.rules import rule_of
from granary.sources.discovery import SOURCES
from granary.warehouse.signals import Signal
from granary.warehouse.words import Amount, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from granary.alerting.config import Config
    from granary.alerting.incidents import Affected, Change, Incident

NAMED = 5
"""Names that a line gives before it counts the rest."""
WORDS = {"opened": "New", "updated": "Still open", "escalated": "Nobody has taken it up", "closed": "Over"}
KINDS = {"mart": "marts", "use": "dashboards and uses", "metric": "metrics"}


@dataclass(frozen=True)
class Message:
    """What is told. `key` is the same at each attempt to tell it; `lines` are pairs of a label and words.

    Times are ISO 8601 in UTC.
    """

    key: str
    incident_id: int
    transition: str
    severity: str
    owner: str
    cause: str
    title: str
    lines: tuple[tuple[str, str], ...]
    runbook: str
    since: str
    at: str
    sample: bool = False

    @property
    def headline(self) -> str:
        """The first line: how grave it is, what happened, and to what."""
        word = "Sample" if self.sample else WORDS[self.transition]
        return " ".join(f"[{self.severity}] {word}: {self.title}".split())

    @property
    def text(self) -> str:
        """All of it as plain text."""
        return "\n".join([self.headline, *(f"{label}: {words}" for label, words in self.lines)])

    def dump(self) -> dict[str, Any]:
        """Return what is kept in the queue."""
        return asdict(self)

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Message:
        """Return the message that `dump` gave."""
        return cls(**{**values, "lines": tuple((str(label), str(words)) for label, words in values["lines"])})


def message(change: Change, key: str, now: datetime, config: Config) -> Message:
    """Return what is told of a change."""
    incident = change.incident
    first = incident.signals[0]
    rule = rule_of(first.kind)
    title = _title(incident)
    if change.transition == "closed":
        title = f"{incident.cause} {rule.repaired if first.subject == incident.cause else 'is well again'}"
        if incident.part_of:
            title = f"{incident.cause} is part of incident {incident.part_of} now"
        lines = [*_of_the_end(incident, now)]
    else:
        lines = [*_of_what_is(change, now)]
    runbook = config.runbook(rule.runbook)
    lines += [("Runbook", runbook)] if runbook and change.transition != "closed" else []
    return Message(
        key=key,
        incident_id=incident.incident_id,
        transition=change.transition,
        severity=incident.severity,
        owner=incident.owner,
        cause=incident.cause,
        title=title,
        lines=tuple(lines),
        runbook=runbook,
        since=incident.since.astimezone(timezone.utc).isoformat(timespec="seconds"),
        at=now.astimezone(timezone.utc).isoformat(timespec="seconds"),
    )


def _title(incident: Incident) -> str:
    own = [one for one in incident.signals if one.subject == incident.cause]
    if not own:  # several tables of a source have it
        rule = rule_of(incident.signals[0].kind)
        tables = sorted({one.subject for one in incident.signals if one.kind == rule.kind})
        return f"{rule.title.format(subject=f'source {incident.cause}')} ({some(tables)})"
    return rule_of(own[0].kind).title.format(subject=own[0].subject)


def _of_what_is(change: Change, now: datetime) -> list[tuple[str, str]]:
    incident = change.incident
    first = incident.signals[0]
    own = [one for one in incident.signals if one.subject in (incident.cause, first.subject)]
    follows = sorted({one.subject for one in incident.signals} - {one.subject for one in own})
    lines = [("What", measured(one)) for one in own]
    if follows:
        lines.append(("Because of it", f"{len(follows):,} more fail or are late: {some(follows)}"))
    lines.append(("Since", f"{stamp(incident.since)} ({span(now - incident.since)})"))
    lines.append(("Owner", incident.owner))
    if incident.times > 1:
        lines.append(("Count", f"it came back, {incident.times} times so far"))
    if change.transition in ("updated", "escalated"):
        lines.append(("Open for", span(now - incident.opened_at)))
    if change.transition != "opened" and incident.news:
        lines.append(("New", some(sorted({subject for _, subject in incident.news}))))
    for kind, label in KINDS.items():
        reached = [one for one in incident.affected if one.kind == kind]
        if reached:
            lines.append((f"Affected {label}", _ages(reached, now)))
    if incident.acked_by:
        lines.append(("Taken up by", incident.acked_by))
    rule = rule_of(first.kind)
    lines.append(("Next", f"`{_next(rule.todo, first.subject)}`"))
    if any(one.kind == "mart" and one.name == incident.cause for one in incident.affected):
        lines.append(("Where its numbers come from", f"`granary explain marts.{incident.cause} --where CONDITION`"))
    lines.append(("All of it", f"`granary incidents show {incident.incident_id}`"))
    return lines


def _next(todo: str, subject: str) -> str:
    """Return the next command."""
    source = SOURCES.get(subject)
    follow = f"capture {subject} --follow" if source and source.capture else f"stream {subject}"
    return todo.format(subject=subject, follow=follow)


def _of_the_end(incident: Incident, now: datetime) -> list[tuple[str, str]]:
    if incident.part_of:
        return [("All of it", f"`granary incidents show {incident.part_of}`")]
    return [
        ("It was", _title(incident)),
        ("From", f"{stamp(incident.since)} to {stamp(now)} ({span(now - incident.since)})"),
        ("Owner", incident.owner),
        ("All of it", f"`granary incidents show {incident.incident_id}`"),
    ]


def measured(signal: Signal) -> str:
    """Return a signal's value and its detail in words."""
    words = []
    if signal.value is not None:
        shown = rule_of(signal.kind).measured.format(
            value=Amount(number(signal.value)), threshold=Amount(number(signal.threshold))
        )
        words.append(shown)
    return ": ".join([*words, *([signal.detail] if signal.detail else [])]) or rule_of(signal.kind).title.format(
        subject=signal.subject
    )


def number(value: float | None) -> str:
    """Return a number as people write it."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"  # noqa: PLR2004


def some(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"{', '.join(found[:NAMED])}{more}"


def span(length: timedelta) -> str:
    """Return a length of time in its largest unit; where the clock was set back, none."""
    minutes = max(0, int(length.total_seconds() // 60))
    for name, size in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if minutes >= 2 * size or name == "minute":
            count = minutes // size
            return plural(count, name)
    return ""


def stamp(at: datetime) -> str:
    """Return a time as people read it."""
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _ages(reached: list[Affected], now: datetime) -> str:
    ages = [f"{one.name} ({span(now - one.published_at)} old)" if one.published_at else one.name for one in reached]
    return f"{len(reached):,}: {some(ages)}"


def sample(now: datetime, config: Config) -> Message:
    """Return a message that says of itself that nothing is wrong."""
    lines = (
        ("What", "nothing is wrong: `granary alerts test` sends this to each channel"),
        ("Since", stamp(now)),
        ("Owner", config.owner),
        ("Next", "`granary alerts policy` says who is told what, when"),
    )
    at = now.astimezone(timezone.utc).isoformat(timespec="seconds")
    title = "alerts reach you"
    return Message("sample", 0, "opened", "warning", config.owner, "sample", title, lines, "", at, at, sample=True)
