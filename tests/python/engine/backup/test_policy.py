"""What is kept, what backup.yml may say, and what `granary serve` starts when."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from granary.backup import catalog, config, pruning, records, service
from granary.backup.catalog import Backup, Position
from granary.backup.config import Config
from granary.backup.log import segment_name
from granary.readers.files.destination import Folder
from granary.supervisor import services
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.backup.conftest import Kept

NOW = datetime(2026, 3, 31, 12, tzinfo=timezone.utc)
MB16 = 1 << 24


def backup(day: int, parent: str | None = None, kind: catalog.Kind = "full") -> Backup:
    """Return a backup of noon of a day of March, whose log begins with the segment of that number."""
    at = NOW.replace(day=day).isoformat()
    return Backup(f"{day:02}", kind, at, at, 18, "0", "1", False, {}, 1, parent, 1, day * MB16 + 40, day * MB16 + 400)


def days(*numbers: int) -> list[Backup]:
    """Return backups of these days: every seventh is full, from the first on, the others stand on the one before."""
    return [backup(day, None if place % 7 == 0 else f"{numbers[place - 1]:02}") for place, day in enumerate(numbers)]


@pytest.mark.parametrize(
    ("full", "kept_days", "first"),
    [
        (1, 1, 29),  # the full one of the 29th is from before yesterday
        (1, 2, 29),
        (1, 3, 22),  # noon of the 28th is restored from the series before
        (2, 1, 22),
        (1, 10, 15),
        (9, 1, 1),
        (1, 99, 1),  # nothing is so old
    ],
)
def test_series_are_kept_that_the_policy_needs(full: int, kept_days: int, first: int) -> None:
    every = days(*range(1, 32))
    stays = pruning.kept(every, Config(keep_full=full, keep_days=kept_days), NOW)
    assert [int(one.name) for one in stays] == list(range(first, 32))


def test_the_log_of_before_goes_with_them(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    for one in days(*range(1, 32)):
        catalog.describe(place, one)
        catalog.write(place, f"wal/{segment_name(1, int(one.name))}-{'0' * 16}.zst", b"")
    catalog.write(place, "wal/00000002.history", b"")
    catalog.write(place, catalog.POSITION_FILE, vars(Position(1, 31 * MB16, NOW.isoformat())))
    gone = pruning.prune(place, Config(keep_full=2, keep_days=1), NOW)
    assert gone == [f"{day:02}" for day in range(1, 22)]
    left = sorted(name for name in place.names("wal") if name.endswith(".zst"))
    assert left == [f"wal/{segment_name(1, day)}-{'0' * 16}.zst" for day in range(22, 32)]
    assert {"wal/00000002.history", catalog.POSITION_FILE} <= place.names("wal").keys()
    assert pruning.prune(place, Config(keep_full=2, keep_days=1), NOW) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("to: [a]", "to is no text"),
        ("too: a", "the file has too"),
        ("- to", "the file is no mapping"),
        ("every: daily", "every is 'daily'"),
        ("every: 0d", "every is '0d'"),
        ("every: 8d", "full_every is shorter than every"),
        ("keep: {full: 0}", "keep.full is 0"),
        ("keep: {days: true}", "keep.days is True"),
        ("keep: {weeks: 2}", "keep has weeks"),
        ("encrypt_to: AGE-SECRET-KEY-1", "encrypt_to is no list of public keys of age"),
        ("credentials: {key: 7}", "credentials.key is no text"),
        ("to: {", "it cannot be read"),
    ],
)
def test_what_backup_yml_may_not_say(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "backup.yml"
    path.write_text(text)
    with pytest.raises(GranaryError, match=rf"{said}.*backup\.yml"):
        config.load(path)


def test_what_backup_yml_says(tmp_path: Path) -> None:
    path = tmp_path / "backup.yml"
    assert config.load(path) == Config()
    path.write_text(
        "to: /mnt/x\nevery: 12h\nfull_every: 3d\ndrill_every: 1d\nkeep: {full: 4, days: 30}\n"
        "encrypt_to: age1abc\ncredentials: {key: A}\n"
    )
    assert config.load(path) == Config(
        "/mnt/x", {"key": "A"}, timedelta(hours=12), timedelta(days=3), timedelta(days=1), 4, 30, ("age1abc",)
    )
    assert config.load(path).at("/other").to == "/other"
    with pytest.raises(GranaryError, match="no destination is set"):
        Config().at(None)


def test_it_is_a_service_where_there_is_a_destination(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[str]:
        return [one.name for one in services.services(kept.settings, 3000)]

    assert "backups" not in names()
    monkeypatch.setattr("granary.supervisor.services.backup.load", lambda: kept.config)
    assert names()[-1] == "backups"


class Child:
    """A process that was started, as far as the service asks."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -15

    def wait(self) -> None:
        """It has ended."""


def test_the_service_stores_the_log_and_starts_what_is_due(
    kept: Kept, copy: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    children: list[Child] = []

    def start(*words: str) -> Child:
        started.append(words)
        children.append(Child())
        return children[-1]

    monkeypatch.setattr(service, "spawn", start)
    said: list[str] = []
    at_work = service.Service(kept.settings, Config(to=copy.place, every=timedelta(hours=1)), said.append)
    at_work.round()
    assert (started, said) == ([("backup",)], [])
    position = catalog.position(copy)
    assert position is not None
    with connect(kept.settings) as connection:
        rows = query(connection, "select place, log_at, problem, every_seconds from ops.backup_state")
    assert rows == [(copy.place, position.moment, "", 3600)]
    at_work.round()  # it is still at work
    assert len(started) == 1
    children[0].code = 1
    at_work.round()  # it failed a moment ago
    assert len(started) == 1
    records.keep(kept.settings, "full", "x", copy.place, catalog.now(), succeeded=True)
    at_work.round()
    assert started[1:] == [("drill",)]
    at_work.end()
    assert children[1].code == -15
    catalog.write(copy, catalog.OWNER_FILE, {"system": "7", "home": "x", "format": 1})
    at_work._shipper = None
    for _ in range(2):
        at_work.round()
    assert len(said) == 1
    assert "backups of another warehouse" in said[0]
    records.forget_state(kept.settings)
