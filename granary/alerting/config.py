"""`alerts.yml` at the root of the project: who is told what, when. Without it incidents are kept, and nobody is told.

It names secrets and holds none: `url`, `secret` and `password` are names of variables, which the environment or
`sources.env` in the warehouse's home sets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from granary.alerting.rules import BY_KIND, RULES, Rule
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.signals import Severity

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

FILE = "alerts.yml"
SEVERITIES: tuple[str, ...] = get_args(Severity)
SPAN = re.compile(r"(\d{1,5})\s*(m|h|d)")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ADDRESS = re.compile(r"[^@\s,<>]+@[^@\s,<>]+")

KINDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "slack": (frozenset({"url"}), frozenset({"plain", "ca"})),
    "teams": (frozenset({"url"}), frozenset({"plain", "ca"})),
    "webhook": (frozenset({"url", "secret"}), frozenset({"plain", "ca"})),
    "alertmanager": (frozenset({"url"}), frozenset({"plain", "ca"})),
    "email": (frozenset({"host", "from", "to"}), frozenset({"port", "user", "password", "plain", "ca"})),
    "file": (frozenset({"path"}), frozenset()),
}
"""The kinds of channels: what each needs, and what it may have."""


@dataclass(frozen=True)
class Channel:
    """One way to tell people: its name, its kind, and the options of that kind."""

    name: str
    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Config:
    """Who is told what, when.

    `tell` are the channels by severity, `owners` those that are told as well of what is an owner's. Incidents that
    nobody acknowledges are told to `escalate_to` after `escalate_after`; what changes is told at most once in
    `update_after`, and what stays open once in `remind_after`. `runbooks` is what links to the pages begin with.
    """

    rules: tuple[Rule, ...] = RULES
    channels: Mapping[str, Channel] = field(default_factory=dict)
    tell: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    escalate_after: timedelta = timedelta(hours=4)
    escalate_to: tuple[str, ...] = ()
    update_after: timedelta = timedelta(hours=1)
    remind_after: timedelta = timedelta(hours=24)
    runbooks: str = ""
    owner: str = "whoever runs the warehouse"

    def told(self, severity: str, owner: str, *, escalated: bool = False) -> tuple[str, ...]:
        """Return the channels that are told of an incident, each once."""
        names = (*self.tell.get(severity, ()), *self.owners.get(owner, ()), *(self.escalate_to if escalated else ()))
        return tuple(dict.fromkeys(names))

    def runbook(self, name: str) -> str:
        """Return where a runbook is: its link, or the command that prints it; '' for none."""
        if not name:
            return ""
        return f"{self.runbooks}/{name}.md" if self.runbooks else f"`granary guide runbooks/{name}`"


def load(path: Path | None = None) -> Config:
    """Read the project's `alerts.yml`.

    Raises:
        GranaryError: it is no YAML, or says what nobody understands; the error names that, and what may be said.
    """
    import yaml  # noqa: PLC0415 - takes 60 ms, which only those pay who have the file

    place = path or PROJECT / FILE
    if not place.exists():
        return Config()
    try:
        text = yaml.safe_load(place.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GranaryError(f"it cannot be read: {str(error).splitlines()[0]}", str(place), "correct its YAML") from None
    return _Reader(str(place)).config(text)


class _Reader:
    """Reads what YAML gave, and says of what is wrong where it is."""

    def __init__(self, where: str) -> None:
        self.where = where

    def config(self, text: Any) -> Config:
        names = ("channels", "tell", "owners", "rules", "escalate", "update_after", "remind_after", "runbooks", "owner")
        given = self.known(text, "the file", names)
        channels = {str(name): self.channel(str(name), one) for name, one in self.map(given, "channels").items()}
        escalate = self.known(self.map(given, "escalate"), "escalate", ("after", "to"))
        tell = self.known(self.map(given, "tell"), "tell", SEVERITIES)
        default = Config()
        return Config(
            rules=self.rules(self.map(given, "rules")),
            channels=channels,
            tell={name: self.names(one, f"tell.{name}", channels) for name, one in tell.items()},
            owners={
                str(name): self.names(one, f"owners.{name}", channels)
                for name, one in self.map(given, "owners").items()
            },
            escalate_after=self.span(escalate.get("after"), "escalate.after", default.escalate_after),
            escalate_to=self.names(escalate.get("to", []), "escalate.to", channels),
            update_after=self.span(given.get("update_after"), "update_after", default.update_after),
            remind_after=self.span(given.get("remind_after"), "remind_after", default.remind_after),
            runbooks=self.text(given["runbooks"], "runbooks").rstrip("/") if "runbooks" in given else "",
            owner=self.text(given.get("owner", default.owner), "owner"),
        )

    def channel(self, name: str, given: Any) -> Channel:
        what = f"channels.{name}"
        kind = str(self.map({what: given}, what).get("kind"))
        if kind not in KINDS:
            self.wrong(f"{what}.kind is {kind!r}", f"write one of {', '.join(KINDS)}")
        needed, allowed = KINDS[kind]
        options = self.known(given, what, ("kind", *sorted(needed | allowed)))
        if missing := sorted(needed - options.keys()):
            self.wrong(f"{what} lacks {', '.join(missing)}", f"a channel of kind {kind} needs it")
        for variable in ("url", "secret", "password"):
            if variable in options and not VARIABLE.fullmatch(str(options[variable])):
                # It may be the secret itself, and is not repeated.
                self.wrong(f"{what}.{variable} is no name of a variable", "write the name of the one that holds it")
        if not isinstance(options.get("plain", False), bool):
            self.wrong(f"{what}.plain is neither true nor false", "true allows a connection without TLS")
        if kind == "email":
            options = self.mail(what, options)
        return Channel(name, kind, {key: value for key, value in options.items() if key != "kind"})

    def mail(self, what: str, options: Mapping[str, Any]) -> dict[str, Any]:
        to = [options["to"]] if isinstance(options["to"], str) else options["to"]
        for part, every in (("to", to), ("from", [options["from"]])):
            if not isinstance(every, list) or not every or not all(ADDRESS.fullmatch(str(one)) for one in every):
                self.wrong(f"{what}.{part} is no address", "write name@example.com, or a list of such")
        port = options.get("port", 587)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:  # noqa: PLR2004
            self.wrong(f"{what}.port is {port!r}", "write a number, such as 587")
        if ("user" in options) != ("password" in options):
            self.wrong(f"{what} has one of user and password", "write both or none")
        return {**options, "to": [str(one) for one in to], "port": port}

    def rules(self, given: Mapping[str, Any]) -> tuple[Rule, ...]:
        self.known(given, "rules", tuple(BY_KIND))
        found = []
        for rule in RULES:
            change = given.get(rule.kind, {})
            if change is False:
                continue
            what = f"rules.{rule.kind}"
            if change is True:
                change = {}
            values = self.known(change, what, ("threshold", "severity"))
            if (severity := values.get("severity", rule.severity)) not in SEVERITIES:
                self.wrong(f"{what}.severity is {severity!r}", f"write {' or '.join(SEVERITIES)}")
            threshold = values.get("threshold", rule.threshold)
            if "threshold" in values:
                if rule.threshold is None:
                    self.wrong(f"{what} has no threshold", "a contract's freshness is in ingestion/")
                if isinstance(threshold, bool) or not isinstance(threshold, int | float) or threshold < 0:
                    self.wrong(f"{what}.threshold is {threshold!r}", "write a number from 0 on")
            found.append(replace(rule, threshold=threshold, severity=severity))
        return tuple(found)

    def map(self, given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        found = given.get(name)
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            self.wrong(f"{name} is {type(found).__name__}", "write `name: value` lines under it")
        return found

    def known(self, given: Any, what: str, names: Collection[str]) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            self.wrong(f"{what} is {type(given).__name__}", "write `name: value` lines")
        for name in given:
            if name not in names:
                self.wrong(f"{what} has {str(name)[:40]!r}", f"it may have {', '.join(names)}")
        return {str(name): value for name, value in given.items()}

    def names(self, given: Any, what: str, channels: Mapping[str, Channel]) -> tuple[str, ...]:
        every = [given] if isinstance(given, str) else given
        if not isinstance(every, list) or not all(isinstance(one, str) for one in every):
            self.wrong(f"{what} is no list of channels", "write [name, name]")
        for name in every:
            if name not in channels:
                self.wrong(f"{what} has {name!r}", f"it is none of the channels {', '.join(channels) or '(none)'}")
        return tuple(every)

    def span(self, given: Any, what: str, default: timedelta) -> timedelta:
        if given is None:
            return default
        if not (found := SPAN.fullmatch(str(given).strip())) or not int(found[1]):
            self.wrong(f"{what} is {given!r}", "write a number of minutes, hours or days, such as 30m, 4h or 2d")
        return timedelta(**{UNITS[found[2]]: int(found[1])})

    def text(self, given: Any, what: str) -> str:
        if not isinstance(given, str) or not given.strip():
            self.wrong(f"{what} is {given!r}", "write words")
        return str(given).strip()

    def wrong(self, what: str, todo: str) -> NoReturn:
        raise GranaryError(f"alerts: {what}", self.where, todo)


def span(text: str) -> timedelta:
    """Return a length of time that a person typed, such as 8h.

    Raises:
        GranaryError: it is none.
    """
    return _Reader("").span(text, "the time", timedelta())
