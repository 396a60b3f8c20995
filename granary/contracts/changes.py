"""What is different between two versions of a contract, and whether those who read the mart are hit by it.

Breaking: a query, a report or an assumption that held may hold no more. Additive: what was promised still is, and there
is more. None: words only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from granary.contracts.document import DEPRECATED_UNTIL, MASKED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Document = Mapping[str, Any]

Kind = Literal["none", "additive", "breaking"]
FIRST = "1.0.0"
ORDER: tuple[Kind, ...] = ("none", "additive", "breaking")


@dataclass(frozen=True)
class Change:
    """One difference: how bad it is, what it is, the column that it is about ('' for the whole mart).

    `until` is the last day for which what goes was promised, as the earlier contract said; the change is due after it.
    `announces` is the last day for which something that is to go is promised from now on.
    """

    kind: Kind
    what: str
    column: str = ""
    until: date | None = None
    announces: date | None = None

    def is_due(self, today: date) -> bool:
        """Whether it breaks a promise that has ended."""
        return self.until is not None and self.until < today


def differences(old: Document, new: Document) -> list[Change]:
    """Return how a contract differs from the one before it, breaking changes first."""
    found = [*_columns(old, new), *_rules("", _table(old), _table(new)), *_roles(old, new), *_service(old, new)]
    if not found and _plain(old) != _plain(new):
        found.append(Change("none", "words only"))
    return sorted(found, key=lambda change: -ORDER.index(change.kind))


def judged(changes: Iterable[Change]) -> Kind:
    """Return what a set of changes is as a whole: the worst of them."""
    return max((change.kind for change in changes), key=ORDER.index, default="none")


def next_version(version: str, kind: Kind) -> str:
    """Return the version that follows: major for what breaks, minor for what is added, patch for words."""
    major, minor, patch = (int(part) for part in version.split("."))
    if kind == "breaking":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if kind == "additive" else f"{major}.{minor}.{patch + 1}"


def ended(old: Document) -> Change:
    """Return the change that a mart is gone."""
    return Change("breaking", "the mart is gone", until=_day(_terms(old).get("endOfSupport")))


def custom(part: Document) -> dict[str, Any]:
    """Return the custom properties of a contract or a part of one."""
    return {str(one["property"]): one["value"] for one in part.get("customProperties") or ()}


def _plain(document: Document) -> dict[str, Any]:
    """Return a contract without what its history says of it."""
    return {name: value for name, value in document.items() if name not in ("version", "customProperties")}


def _table(document: Document) -> Document:
    table: Document = document["schema"][0]
    return table


def _named(parts: Sequence[Document] | None, name: str = "name") -> dict[str, Document]:
    return {str(part[name]): part for part in parts or ()}


def _day(text: object) -> date | None:
    return date.fromisoformat(str(text)) if text else None


def _columns(old: Document, new: Document) -> Iterator[Change]:
    before, after = _named(_table(old).get("properties")), _named(_table(new).get("properties"))
    for name, column in before.items():
        if name not in after:
            yield Change("breaking", f"column {name} is gone", name, _day(custom(column).get(DEPRECATED_UNTIL)))
        else:
            yield from _column(name, column, after[name])
    for name in after.keys() - before.keys():
        yield Change("additive", f"column {name} is new", name)
    was, now = (sorted(name for name, one in part.items() if one.get("primaryKey")) for part in (before, after))
    if was != now:
        what = f"a row was one per {', '.join(was) or 'nothing'} and is one per {', '.join(now) or 'nothing'}"
        yield Change("breaking", what)


def _column(name: str, old: Document, new: Document) -> Iterator[Change]:
    if old.get("physicalType") != new.get("physicalType"):
        what = f"column {name} was {old.get('physicalType')} and is {new.get('physicalType')}"
        yield Change("breaking", what, name)
    if old.get("required") and not new.get("required"):
        yield Change("breaking", f"column {name} may be null", name)
    elif new.get("required") and not old.get("required"):
        yield Change("additive", f"column {name} is never null", name)
    if old.get("unique") and not new.get("unique"):
        yield Change("breaking", f"column {name} may repeat", name)
    masked = [custom(part).get(MASKED, False) for part in (old, new)]
    if masked[0] != masked[1]:
        says = "is masked" if masked[1] else "is masked no more"
        yield Change("breaking" if masked[1] else "additive", f"column {name} {says}", name)
    until = [custom(part).get(DEPRECATED_UNTIL) for part in (old, new)]
    if until[0] != until[1]:
        says = f"will be there until {until[1]}" if until[1] else "will stay"
        sooner = bool(until[0] and until[1] and str(until[1]) < str(until[0]))
        yield Change("breaking" if sooner else "additive", f"column {name} {says}", name, announces=_day(until[1]))
    leads = [{one["to"] for one in part.get("relationships") or ()} for part in (old, new)]
    for gone in sorted(leads[0] - leads[1]):
        yield Change("breaking", f"values of {name} may be missing from {gone}", name)
    for more in sorted(leads[1] - leads[0]):
        yield Change("additive", f"values of {name} are all in {more}", name)
    yield from _rules(name, old, new)


def _rules(column: str, old: Document, new: Document) -> Iterator[Change]:
    before, after = _named(old.get("quality")), _named(new.get("quality"))
    for name, rule in before.items():
        if name not in after:
            yield Change("breaking", f"rule {name} is gone", column)
        elif _without_words(rule) != _without_words(after[name]):
            yield _changed_rule(column, name, rule, after[name])
    for name in sorted(after.keys() - before.keys()):
        yield Change("additive", f"rule {name} is new", column)


def _without_words(rule: Document) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name != "description"}


def _changed_rule(column: str, name: str, old: Document, new: Document) -> Change:
    """Judge a rule that says something else: only of lists of values can be told which is the stricter one."""
    values = [(rule.get("arguments") or {}).get("validValues") for rule in (old, new)]
    if values[0] is not None and values[1] is not None:
        more = [str(value) for value in values[1] if value not in values[0]]
        if not more:
            return Change("additive", f"rule {name} allows fewer values", column)
        return Change("breaking", f"rule {name} allows {', '.join(more)} as well", column)
    return Change("breaking", f"rule {name} says something else", column)


def _roles(old: Document, new: Document) -> Iterator[Change]:
    before, after = ({str(role["role"]) for role in part.get("roles") or ()} for part in (old, new))
    for role in sorted(before - after):
        yield Change("breaking", f"{role} may read it no more")
    for role in sorted(after - before):
        yield Change("additive", f"{role} may read it")


def _terms(document: Document) -> dict[str, Any]:
    return {str(one["property"]): one["value"] for one in document.get("slaProperties") or ()}


def _service(old: Document, new: Document) -> Iterator[Change]:
    before, after = _terms(old), _terms(new)
    was, now = before.get("latency"), after.get("latency")
    if was != now:
        worse = now is None or (was is not None and now > was)
        says = f"its data may be {now} hours old" if now is not None else "how old its data may be is not promised"
        yield Change("breaking" if worse else "additive", says)
    was, now = before.get("endOfSupport"), after.get("endOfSupport")
    if was != now:
        sooner = bool(was and now and str(now) < str(was))
        says = f"the mart will be there until {now}" if now else "the mart will stay"
        yield Change("breaking" if sooner else "additive", says, announces=_day(now))
