"""`backup.yml` at the root of the project: where backups go, how often, what is kept, for whom they are encrypted.

It names secrets and holds none: `credentials` are names of variables, which the environment or `sources.env` in the
warehouse's home sets. The key that opens encrypted backups is the setting GRANARY_BACKUP_KEY, or a file
or a command that has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.backup.sealing import identities_of
from granary.readers.files.destination import Destination, open_destination
from granary.sources.config import find, setting
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

FILE = "backup.yml"
KEY = "GRANARY_BACKUP_KEY"
SPAN = re.compile(r"(\d{1,5})\s*(m|h|d)")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
NAMES = ("to", "credentials", "every", "full_every", "drill_every", "keep", "encrypt_to")


@dataclass(frozen=True)
class Config:
    """Where backups go and how they are made.

    `every` so often a base backup is made, and one that stands by itself every `full_every`; in between they hold what
    changed. `keep_full` such series are kept, and more if `keep_days` asks for it: any moment of so many days can be
    restored. `credentials` maps options of the destination to names of variables. `encrypt_to` are public keys.
    """

    to: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)
    every: timedelta = timedelta(days=1)
    full_every: timedelta = timedelta(days=7)
    drill_every: timedelta = timedelta(days=7)
    keep_full: int = 2
    keep_days: int = 14
    encrypt_to: tuple[str, ...] = ()

    def at(self, place: str | None) -> Config:
        """Return the same with another destination, if one is given.

        Raises:
            GranaryError: there is none.
        """
        if not (place or self.to):
            raise GranaryError("no destination is set", FILE, "write `to: FOLDER or URL` there, or give --to")
        return replace(self, to=place or self.to)


def load(path: Path | None = None) -> Config:
    """Read the project's `backup.yml`; without it nothing is set.

    Raises:
        GranaryError: it is no YAML, or says what nobody understands.
    """
    import yaml  # noqa: PLC0415 - takes 60 ms, which only those pay who have the file

    place = path or PROJECT / FILE
    if not place.exists():
        return Config()
    try:
        given = yaml.safe_load(place.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GranaryError(f"it cannot be read: {str(error).splitlines()[0]}", str(place), "correct its YAML") from None
    return _Reader(str(place)).config(given)


@dataclass(frozen=True)
class _Reader:
    """Reads what YAML gave, and says of what is wrong where it is."""

    where: str

    def config(self, given: Any) -> Config:
        known = self.known(given, "the file", NAMES)
        keep = self.known(known.get("keep", {}), "keep", ("full", "days"))
        default = Config()
        found = Config(
            to=self.text(known.get("to", ""), "to"),
            credentials={
                str(name): self.text(one, f"credentials.{name}")
                for name, one in self.known(known.get("credentials", {}), "credentials", ()).items()
            },
            every=self.span(known.get("every"), "every", default.every),
            full_every=self.span(known.get("full_every"), "full_every", default.full_every),
            drill_every=self.span(known.get("drill_every"), "drill_every", default.drill_every),
            keep_full=self.number(keep.get("full", default.keep_full), "keep.full"),
            keep_days=self.number(keep.get("days", default.keep_days), "keep.days"),
            encrypt_to=self.keys(known.get("encrypt_to", [])),
        )
        if found.full_every < found.every:
            raise GranaryError("full_every is shorter than every", self.where, "make it as long, or longer")
        return found

    def known(self, given: Any, what: str, names: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise GranaryError(f"{what} is no mapping", self.where, "write NAME: VALUE")
        if names and (others := sorted(str(name) for name in given if name not in names)):
            raise GranaryError(f"{what} has {', '.join(others)}", self.where, f"it may have {', '.join(names)}")
        return {str(name): one for name, one in given.items()}

    def text(self, given: Any, what: str) -> str:
        if not isinstance(given, str):
            raise GranaryError(f"{what} is no text", self.where, "write words")
        return given.strip()

    def keys(self, given: Any) -> tuple[str, ...]:
        listed = [given] if isinstance(given, str) else given
        if not isinstance(listed, list) or not all(str(one).startswith("age1") for one in listed):
            # It may be the private key, and is not repeated.
            raise GranaryError("encrypt_to is no list of public keys of age", self.where, "they begin with age1")
        return tuple(str(one) for one in listed)

    def number(self, given: Any, what: str) -> int:
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise GranaryError(f"{what} is {given!r}", self.where, "write a whole number, 1 or more")
        return given

    def span(self, given: Any, what: str, default: timedelta) -> timedelta:
        if given is None:
            return default
        if not (found := SPAN.fullmatch(str(given).strip())) or not int(found[1]):
            todo = "write a number of minutes, hours or days, such as 30m, 4h or 2d"
            raise GranaryError(f"{what} is {given!r}", self.where, todo)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


def destination(settings: Settings, config: Config) -> Destination:
    """Return the destination of a configuration.

    Raises:
        GranaryError: a variable that `credentials` names is not set.
    """
    found = {option: setting(settings, name) for option, name in config.credentials.items()}
    return open_destination(config.to, found)


def private_keys(settings: Settings) -> list[Any]:
    """Return the keys that open encrypted backups, none if none is set; they are never in a message.

    Raises:
        GranaryError: the file or the command does not give one.
    """
    text = find(settings, KEY)
    return [] if text is None else identities_of(text, KEY)
