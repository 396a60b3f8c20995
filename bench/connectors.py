"""Singer taps and dlt sources through our seam, each beside its native target, in the same run and the same server.

`python -m bench connectors [NAME...]`. The connectors come from the package index, into a project that is thrown away.
Natively a tap is piped into target-postgres (COPY, upserts), and started from the last state that the target has
printed; a dlt source is a pipeline of its own into dlt's postgres. Each is measured once whole, then killed some times
at random moments and run to its end: rows that are missing or double are counted by their key.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if __name__ == "__main__":  # before anything asks for the project
    PLACE = Path(os.environ.get("GRANARY_PROJECT") or tempfile.mkdtemp(prefix="granary-connectors-"))
    for needed in ("dbt_project.yml", "profiles.yml"):
        (PLACE / needed).touch()
    os.environ["GRANARY_PROJECT"] = str(PLACE)

from granary.cli import output
from granary.load import api as load
from granary.readers.connectors import environment
from granary.scaffold import connectors, source
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.sources.spec import Source

ROWS = int(os.environ.get("BENCH_ROWS", "50000"))
KILLS = int(os.environ.get("BENCH_KILLS", "5"))
TARGET = "meltanolabs-target-postgres"


@dataclass(frozen=True)
class Case:
    """A connector: its packages, its configuration, and which of its streams is taken."""

    packages: tuple[str, ...]
    stream: str
    config: Callable[[Path, Settings], dict[str, Any]]
    tap: str = ""
    function: str = ""
    key: str = "id"
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def connector(self) -> str:
        """The name of its lock."""
        return self.tap or "dlt"


def things(number: int) -> dict[str, Any]:
    """Return a row."""
    at = f"2026-01-{1 + number % 28:02d}T{number % 24:02d}:00:00Z"
    return {"id": number, "name": f"thing {number}", "amount": number / 4, "changed_at": at}


def _json_lines(folder: Path, _: Settings) -> dict[str, Any]:
    path = folder / "things.jsonl"
    path.write_text("".join(json.dumps(things(number)) + "\n" for number in range(ROWS)))
    return {"path": str(path), "stream_name": "things", "primary_keys": ["id"]}


def _json_file(folder: Path, _: Settings) -> dict[str, Any]:
    path = folder / "things.json"
    path.write_text(json.dumps([things(number) for number in range(ROWS)]))
    return {"paths": [str(path)], "stream_name": "things"}


def _csv(folder: Path, _: Settings) -> dict[str, Any]:
    path = folder / "things.csv"
    lines = (",".join(map(str, things(number).values())) for number in range(ROWS))
    path.write_text("\n".join(["id,name,amount,changed_at", *lines]) + "\n")
    return {"files": [{"path": str(path), "format": "csv", "primary_keys": ["id"], "table_name": "things"}]}


def _postgres(folder: Path, settings: Settings) -> dict[str, Any]:
    with connect(settings) as connection:
        execute(connection, "create schema if not exists shop")
        execute(connection, "drop table if exists shop.things")
        execute(
            connection,
            "create table shop.things as select n::int as id, 'thing ' || n as name, n / 4.0::float8 as amount,"
            f" timestamptz '2026-01-01' + n * interval '1 second' as changed_at from generate_series(0, {ROWS - 1}) n",
        )
        execute(connection, "alter table shop.things add primary key (id)")
        connection.commit()
    return {"sqlalchemy_url": uri(settings, "postgresql+psycopg2"), "filter_schemas": ["shop"]}


def _rest(folder: Path, settings: Settings) -> dict[str, Any]:
    stream = {"name": "things", "path": "/things", "primary_keys": ["id"], "records_path": "$.data[*]"}
    return {"api_url": serve(), "streams": [stream], "next_page_token_path": "$.next"}


def _sqlite(folder: Path, _: Settings) -> dict[str, Any]:
    path = folder / "things.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table things (id integer primary key, name text, amount float, changed_at text)")
        rows = (tuple(things(number).values()) for number in range(ROWS))
        connection.executemany("insert into things values (?, ?, ?, ?)", rows)
    return {"credentials": f"sqlite:///{path}", "table_names": ["things"], "backend": "pyarrow"}


def _rest_api(folder: Path, _: Settings) -> dict[str, Any]:
    pages = {"type": "json_link", "next_url_path": "next_url"}
    endpoint = {"path": "things", "data_selector": "data", "paginator": pages}
    resource = {"name": "things", "primary_key": "id", "endpoint": endpoint}
    return {"config": {"client": {"base_url": serve()}, "resources": [resource]}}


def _files(folder: Path, settings: Settings) -> dict[str, Any]:
    _json_lines(folder, settings)
    return {"bucket_url": folder.as_uri(), "file_glob": "*.jsonl"}


CASES = {
    "tap-jsonl": Case(("tap-jsonl",), "things", _json_lines, tap="tap-jsonl"),
    "tap-jsonfile": Case(("tap-jsonfile",), "things", _json_file, tap="tap-jsonfile"),
    "tap-spreadsheets": Case(("tap-spreadsheets",), "things", _csv, tap="tap-spreadsheets"),
    "tap-postgres": Case(("meltanolabs-tap-postgres",), "shop-things", _postgres, tap="tap-postgres"),
    "tap-rest-api-msdk": Case(("tap-rest-api-msdk",), "things", _rest, tap="tap-rest-api-msdk"),
    "dlt sql_database": Case(
        ("dlt[sql_database,parquet,postgres]",), "things", _sqlite, function="dlt.sources.sql_database:sql_database"
    ),
    "dlt rest_api": Case(
        ("dlt[sql_database,parquet,postgres]",), "things", _rest_api, function="dlt.sources.rest_api:rest_api_source"
    ),
    "dlt filesystem": Case(
        ("dlt[sql_database,parquet,postgres]",), "read_jsonl", _files, function="dlt.sources.filesystem:readers"
    ),
}
NATIVE_DLT = """
import importlib, json, sys
import dlt
function, config, stream, uri, folder = sys.argv[1:]
module, _, name = function.partition(":")
source = getattr(importlib.import_module(module), name)(**json.loads(open(config).read())).with_resources(stream)
to = dlt.destinations.postgres(uri)
pipeline = dlt.pipeline("native", destination=to, pipelines_dir=folder, dataset_name="native")
pipeline.run(source, loader_file_format="parquet")
"""


def uri(settings: Settings, dialect: str = "postgresql") -> str:
    """Return the address of the warehouse's own server, over its socket."""
    return f"{dialect}://granary:unused@localhost:5432/granary?host={settings.host}&sslmode=disable"


_servers: list[ThreadingHTTPServer] = []


def serve() -> str:
    """Serve the rows as pages of JSON, a thousand each; return the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            start = int(parse_qs(urlsplit(self.path).query).get("page", ["0"])[0])
            end = min(start + 1000, ROWS)
            following = end if end < ROWS else None
            page: dict[str, Any] = {"data": [things(number) for number in range(start, end)], "next": following}
            page["next_url"] = f"{url}/things?page={end}" if following else None
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients are killed here: say nothing."""

    if not _servers:
        _servers.append(Server(("127.0.0.1", 0), Handler))
        threading.Thread(target=_servers[0].serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{_servers[0].server_port}"
    return url


class Bench:
    """One connector, both ways."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.case, self.settings = name, CASES[name], settings
        self.folder = Path(os.environ["GRANARY_PROJECT"]) / name.replace(" ", "-")
        self.folder.mkdir()
        self.config = self.folder / "config.json"
        self.random = random.Random(2017)  # noqa: S311 - when something is killed
        self.spec = f"s{list(CASES).index(name)}"

    def prepare(self) -> Source:
        """Install the connector, write its source as `granary add-source` does, and return that."""
        case = self.case
        if not environment.lock_of(case.connector).is_file():
            environment.install(case.connector, case.packages)
        self.config.write_text(json.dumps(case.config(self.folder, self.settings)))
        planned = connectors.inspect(self.spec, self.config, tap=case.tap, function=case.function, only=(case.stream,))
        project = Path(os.environ["GRANARY_PROJECT"])
        for path, text in planned.opening.files.items():
            (project / path).write_text(text)
        (self.folder / "source.py").write_text(source.module(planned))
        os.environ.update(planned.opening.settings)
        return read(self.folder)

    def ours(self) -> subprocess.Popen[bytes]:
        """Start a load in a process of its own."""
        command = [sys.executable, "-m", "bench.connectors", "--load", str(self.folder)]
        return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)

    def native(self) -> subprocess.Popen[bytes]:
        """Start the connector with its native target, from where that says it is."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "RUNTIME__DLTHUB_TELEMETRY": "false"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": (self.folder / "native.log").open("ab")}
        if self.case.function:
            command = [str(environment.python("dlt")), "-c", NATIVE_DLT, self.case.function, str(self.config)]
            command += [self.case.stream, uri(self.settings), str(self.folder / "native")]
            return subprocess.Popen(command, start_new_session=True, env=env, **quiet)  # type: ignore[call-overload, no-any-return]
        catalog, state, target = self.folder / "catalog.json", self.folder / "state", self.folder / "target.json"
        if not catalog.exists():
            tap = [str(environment.program(self.case.tap)), "--config", str(self.config), "--discover"]
            entries = json.loads(subprocess.run(tap, env=env, capture_output=True, check=True).stdout)["streams"]
            chosen = [one for one in entries if one["tap_stream_id"] == self.case.stream]
            for part in chosen[0]["metadata"]:
                part["metadata"]["selected"] = True
            catalog.write_text(json.dumps({"streams": chosen}))
            said = {"sqlalchemy_url": uri(self.settings, "postgresql+psycopg"), "default_target_schema": "native"}
            target.write_text(json.dumps(said | {"use_copy": True, "load_method": "upsert"}))
        lines = state.read_text().splitlines() if state.exists() else []
        words = f"{environment.program(self.case.tap)} --config {self.config} --catalog {catalog}"
        if lines:
            (self.folder / "last-state").write_text(lines[-1])
            words += f" --state {self.folder / 'last-state'}"
        words += f" | {environment.python(TARGET).parent / 'target-postgres'} --config {target} >> {state}"
        return subprocess.Popen(["/bin/bash", "-c", words], start_new_session=True, env=env, **quiet)  # type: ignore[call-overload, no-any-return]

    def measured(self, start: Callable[[], subprocess.Popen[bytes]]) -> float:
        """Return the seconds of a whole run."""
        began = time.perf_counter()
        if start().wait(1200):
            raise SystemExit(f"{self.name} failed; see {self.folder}")
        return time.perf_counter() - began

    def killed(self, start: Callable[[], subprocess.Popen[bytes]], seconds: float) -> None:
        """Kill some runs at random moments, and have the last one come to its end."""
        for _ in range(KILLS):
            process = start()
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.random.uniform(0.2, 0.98) * seconds)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(0.2)
        self.measured(start)

    def wrong(self, relation: str) -> str:
        """Return how many rows of a relation are missing, and how many double."""
        with connect(self.settings) as connection:
            ((rows, keys),) = query(connection, f"select count(*), count(distinct {self.case.key}) from {relation}")
        return f"{ROWS - int(str(keys)):,} / {int(str(rows)) - int(str(keys)):,}"

    def clean(self, schema: str) -> None:
        """Begin anew."""
        with connect(self.settings) as connection:
            execute(connection, f"drop schema if exists {schema} cascade")
            for table in ("watermarks", "raw_tables", "load_audit", "quarantine"):
                execute(connection, f"delete from ops.{table}")
            connection.commit()
        for path in (self.folder / "state", self.folder / "last-state"):
            path.unlink(missing_ok=True)

    def run(self) -> tuple[object, ...]:
        """Measure, kill, count; return a row of the result."""
        (table,) = self.prepare().tables
        raw, native = f"raw_{self.spec}.{table.name}", "native.things"
        native = f"native.{self.case.stream}" if self.case.function else native
        ours = self.measured(self.ours)
        theirs = self.measured(self.native)
        found = []
        for start, schema, relation, seconds in (
            (self.ours, f"raw_{self.spec}", raw, ours),
            (self.native, "native", native, theirs),
        ):
            self.clean(schema)
            self.killed(start, seconds)
            found.append(self.wrong(relation))
            self.clean(schema)
        speeds = (f"{ROWS / ours:,.0f}", f"{ROWS / theirs:,.0f}", f"{theirs / ours:.2f}")
        return (self.name, table.disposition, f"{ROWS:,}", *speeds, KILLS, *found)


def read(folder: Path) -> Source:
    """Return the source that was written into a folder."""
    space: dict[str, Any] = {"__name__": "source"}
    exec((folder / "source.py").read_text(), space)  # noqa: S102 - what `granary add-source` writes
    found: Source = space["SOURCE"]
    return found


def main(words: list[str]) -> None:
    """Measure the connectors that are named, or all; `--load FOLDER` is one load of one of them."""
    settings = Settings.load()
    if words[:1] == ["--load"]:
        spec = read(Path(words[1]))
        load.SOURCES = {spec.name: spec}
        load.load_table(settings, spec.name, spec.tables[0].name)
        return
    server.up(settings)
    environment.install(TARGET, (TARGET,))
    rows = []
    for name in words or list(CASES):
        try:
            rows.append(Bench(name, settings).run())
        except Exception as error:  # the others go on
            rows.append((name, f"failed: {error}"[:300], *[""] * 7))
        output.line(str(rows[-1]))
    output.table(
        "Connectors through our seam, and with their native target (target-postgres, dlt's postgres)",
        ("connector", "disposition", "rows", "rows/s", "native rows/s", "ratio", "kills", "lost / double", "natively"),
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
