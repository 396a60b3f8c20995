"""The page "who is told what, when", as `alerts.yml` and the rules have it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.alerting.message import number, span
from granary.warehouse.words import Amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.alerting.config import Config

OWN = "over what its contract, or its own past, says"
FORMS = {
    "slack": "Slack",
    "teams": "Teams",
    "webhook": "signed webhook",
    "alertmanager": "Alertmanager",
    "email": "e-mail",
    "file": "file",
}


def page(config: Config) -> str:
    """Return the page, as Markdown; it has names of variables, and no secret."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: Config) -> Iterator[str]:
    yield from ("# Who is told what, when", "")
    yield "`granary alerts policy` writes this page, from `alerts.yml` and the engine's rules."
    yield from ("", "## Who", "")
    if config.channels:
        yield from ("| channel | is | reaches | is told of |", "|---|---|---|---|")
        for name, channel in config.channels.items():
            where = (
                ", ".join(channel.options.get("to", ())) or channel.options.get("url") or channel.options.get("path")
            )
            shown = f"`{where}`" if channel.kind != "email" else where
            yield f"| {name} | {FORMS[channel.kind]} | {shown} | {_told(config, name)} |"
    else:
        yield "Nobody: there is no channel. Incidents are kept all the same: `granary incidents list`."
    yield from ("", "## When", "")
    yield "- A condition that holds opens an incident, or joins the one whose cause it follows from: told at once."
    yield f"- What is new of an incident is told after {span(config.update_after)}; that it is graver or back, at once."
    yield f"- An incident that nobody takes up is told again every {span(config.remind_after)}."
    to = f" {', '.join(config.escalate_to)} is told, too" if config.escalate_to else " its channels are told that"
    yield f"- After {span(config.escalate_after)} in which nobody has taken it up (`granary incidents ack`){to}."
    yield "- Its end is told to everybody who was told of it."
    yield from ("", "## What", "", "| condition | told when | how grave | told to | runbook |", "|---|---|---|---|---|")
    for rule in config.rules:
        told = ", ".join(config.tell.get(rule.severity, ())) or "nobody"
        when = rule.measured.format(value=Amount("N"), threshold=Amount(number(rule.threshold)))
        if rule.threshold is None:
            when = OWN if "{threshold" in rule.measured else ""
        runbook = config.runbook(rule.runbook)
        if config.runbooks and runbook:
            runbook = f"[{rule.runbook}]({runbook.removeprefix('docs/')})"
        yield f"| {rule.title.format(subject='…')} (`{rule.kind}`) | {when} | {rule.severity} | {told} | {runbook} |"


def _told(config: Config, name: str) -> str:
    of = [f"{severity} incidents" for severity, names in config.tell.items() if name in names]
    of += [f"what is of {owner}" for owner, names in config.owners.items() if name in names]
    of += ["what nobody takes up"] if name in config.escalate_to else []
    return ", ".join(of) or "nothing"
