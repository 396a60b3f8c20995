"""Landing zones: files that come, are corrected, hold bad rows, and are touched without being changed."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table
from tests.python.engine.chaos.world import REFUSED, SEAM, Rows, World, load_all

if TYPE_CHECKING:
    from random import Random

    from granary.warehouse.settings import Settings
    from tests.python.engine.chaos.loader_process import Loader

UNITS = 5
"""Names of files of a table: a round writes some of them anew."""
ROWS = (1100, 2300)
"""Rows of a file: two or three parts of a COPY."""
DAMAGED = 0.15
"""Share of files that are damaged."""

COLUMNS = (
    Column("id", pa.int64(), "Number of the row.", nullable=False),
    Column("place", pa.string(), "Where it happened."),
    Column("amount", pa.int64(), "Cents.", nullable=False, minimum=0),
)


def source(folder: str, file: str = "*") -> Source:
    """Return the source of a landing zone; `file` is the pattern of the files' names."""

    def table(name: str, location: str) -> Table:
        return Table(name, "Rows.", location, COLUMNS, "replace_unit", timedelta(days=1), max_refused=0.5)

    return Source(
        "chaos_files",
        "A landing zone.",
        "tests",
        "files",
        (),
        lambda _: FileReader(folder),
        (table("sales", f"sales/{file}.parquet"), table("visits", f"visits/{file}.jsonl")),
    )


@dataclass(frozen=True)
class FilesLoader:
    """Loads the landing zone."""

    folder: str

    def load(self, settings: Settings) -> None:
        """Load both tables."""
        load_all(settings, source(self.folder))


Row = tuple[int, str | None, int]


def rows(random: Random) -> list[Row]:
    """Return a file's rows; some repeat, some have a negative amount, which the contract refuses."""
    return [
        (random.randrange(10_000), random.choice(("Cincinnati", "Zoë's «corner»", None)), random.randrange(-9, 500))
        for _ in range(random.randint(*ROWS))
    ]


def put(path: Path, content: list[Row], *, damaged: bool = False) -> None:
    """Write a file as a careful sender does: under another name, then renamed. A damaged one lacks its end."""
    path.parent.mkdir(exist_ok=True)
    records = [dict(zip(("id", "place", "amount"), row, strict=True)) for row in content]
    hidden = path.with_name(f".{path.name}")
    if path.suffix == ".parquet":
        schema = pa.schema([(column.name, column.type) for column in COLUMNS])
        pq.write_table(pa.Table.from_pylist(records, schema=schema), hidden, row_group_size=700)
    else:
        hidden.write_text("".join(json.dumps(record) + "\n" for record in records))
    if damaged:
        os.truncate(hidden, hidden.stat().st_size - 99)
    hidden.replace(path)


class FilesWorld(World):
    """Two tables whose files are replaced whole. A corrected file may return to what it was before.

    Now and then one is damaged, and quarantined as a file: what its earlier delivery brought stays.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.source = source(str(self.folder))
        self.tables = self.source.tables
        self.loader: Loader = FilesLoader(str(self.folder))
        self.files: dict[Path, list[Row]] = {}
        self.earlier: dict[Path, list[list[Row]]] = {}

    def advance(self) -> None:
        for table in self.source.tables:
            parts = range(UNITS if "*" in table.location else 1)
            names = [self.folder / table.location.replace("*", f"part-{number}") for number in parts]
            touched = [path for path in names if path in self.files]
            for path in self.random.sample(names, min(2, len(names))):
                former = self.earlier.setdefault(path, [])
                if path.suffix == ".parquet" and self.random.random() < DAMAGED:
                    put(path, rows(self.random), damaged=True)
                    continue
                again = [content for content in former if content != self.files[path]]
                content = self.random.choice(again) if again and self.random.random() < 0.3 else rows(self.random)
                put(path, content)
                former.append(content)
                self.files[path] = content
            if touched:
                os.utime(self.random.choice(touched))

    def truth(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {"sales": Counter(), "visits": Counter(), REFUSED: Counter()}
        for path, content in self.files.items():
            table = path.parent.name
            found[table].update(row for row in content if row[2] >= 0)
            found[REFUSED].update(
                (table, path.relative_to(self.folder).as_posix(), place, "amount", str(row[0]))
                for place, row in enumerate(content, start=1)
                if row[2] < 0
            )
        return found


# -- over the network ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WebFilesLoader:
    """Loads two files that a web server has."""

    url: str

    def load(self, settings: Settings) -> None:
        """Load both tables."""
        load_all(settings, source(self.url, "part-0"))


class WebFilesWorld(FilesWorld):
    """A web server with a file per table, which is copied before it is read, and replaced when it is corrected."""

    points = (*SEAM, "file-copied")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Clients are killed here: say nothing."""

        self.server = Server(("127.0.0.1", 0), partial(Handler, directory=str(self.folder)))
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        url = f"http://127.0.0.1:{self.server.server_port}"
        self.source = source(url, "part-0")
        self.tables = self.source.tables
        self.loader = WebFilesLoader(url)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


# -- immutable events ----------------------------------------------------------------------------------------------


def event_source(folder: str) -> Source:
    """Return the source of files of events, each of which counts once however often it is delivered."""
    columns = (Column("id", pa.string(), "The sender's id.", nullable=False), *COLUMNS[1:])
    keyed = Table(
        "events", "Events.", "events/*.jsonl", columns, "append", timedelta(days=1), key=("id",), max_refused=0.5
    )
    loose = Table("log", "Lines.", "log/*.jsonl", COLUMNS, "append", timedelta(days=1), max_refused=0.5)
    return Source(
        "chaos_events", "Files of events.", "tests", "files", (), lambda _: FileReader(folder), (keyed, loose)
    )


@dataclass(frozen=True)
class EventFilesLoader:
    """Loads the files of events."""

    folder: str

    def load(self, settings: Settings) -> None:
        """Load both tables."""
        load_all(settings, event_source(self.folder))


class EventFilesWorld(World):
    """A table by key, whose sender repeats events, also in files that grow; and one without a key."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.source = event_source(str(self.folder))
        self.tables = self.source.tables
        self.loader = EventFilesLoader(str(self.folder))
        self.events: dict[str, tuple[str | None, int]] = {}
        self.lines: Rows = Counter()
        self.refused: Rows = Counter()
        self.files: dict[Path, list[tuple[Any, ...]]] = {}

    def advance(self) -> None:
        number = len(self.files)
        fresh = [
            (f"e{len(self.events) + i}", place, abs(amount)) for i, (_, place, amount) in enumerate(rows(self.random))
        ]
        repeated = self.random.sample(list(self.events.items()), min(400, len(self.events)))
        self.events |= {name: (place, amount) for name, place, amount in fresh}
        content = [*fresh, *((name, *rest) for name, rest in repeated), *fresh[:50]]
        self.random.shuffle(content)
        path = self.folder / "events" / f"{number:04}.jsonl"
        grows = [path for path in self.files if path.parent.name == "events"]
        if grows and self.random.random() < 0.3:
            path = self.random.choice(grows)
            content = self.files[path] + content
        self.files[path] = content
        put(path, content)
        path = self.folder / "log" / f"{number:04}.jsonl"
        self.files[path] = lines = list(rows(self.random))
        put(path, lines)
        self.lines.update(row for row in lines if row[2] >= 0)
        self.refused.update(
            ("log", f"log/{path.name}", place, "amount", str(row[0]))
            for place, row in enumerate(lines, 1)
            if row[2] < 0
        )

    def truth(self) -> dict[str, Rows]:
        keyed: Rows = Counter((name, *rest) for name, rest in self.events.items())
        return {"events": keyed, "log": self.lines, REFUSED: self.refused}
