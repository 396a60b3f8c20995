"""How faults are planted in the year that is played, and repaired before the next day is loaded.

A plant is a context: it begins when the day has been delivered and nothing of it is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.anomalies import FAULTS as DELIVERED
from demo import crm
from demo.clock import weeks_between
from granary.alerting import rules
from granary.warehouse import run_ledger
from granary.warehouse.run_ledger import Lag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.alerts_replay import Replay

    Change = Callable[[pa.Table], pa.Table]
    Plant = Callable[[Replay], AbstractContextManager[None]]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SALES, PROMOTIONS, REDEMPTIONS = "pos.transactions", "pos.promotions", "events.coupon_redemptions"


# -- files ---------------------------------------------------------------------------------------------------


def newest(replay: Replay, table: str) -> Path:
    """Return the file of the newest day, or week, of a table."""
    if table == SALES:
        return replay.landing / "pos" / "transactions" / f"{replay.day}.parquet"
    if table == REDEMPTIONS:
        return replay.landing / "events" / "coupon_redemptions" / f"{replay.day}.jsonl"
    (week,) = weeks_between(replay.day - DAY, replay.day)
    return replay.landing / "pos" / "promotions" / f"week-{week:02}.parquet"


def new_week(replay: Replay) -> bool:
    """Whether a week's file comes, of which something is expected by now."""
    return replay.day > date(2017, 4, 20) and bool(weeks_between(replay.day - DAY, replay.day))


def has_events(replay: Replay) -> bool:
    """Whether an event came on the day."""
    return newest(replay, REDEMPTIONS).exists()


def file(table: str, change: Callable[[Path], None]) -> Plant:
    """Return the plant that does something to the newest file of a table; the right one comes the next day."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        path = newest(replay, table)
        right = path.read_bytes()
        change(path)
        yield
        path.write_bytes(right)

    return plant


def rows(table: str, change: Change) -> Plant:
    """Return the plant that changes the rows of the newest file of a table."""

    def rewrite(path: Path) -> None:
        pq.write_table(change(pq.read_table(path)), path, store_schema=False)

    return file(table, rewrite)


def delivered(name: str, table: str = SALES) -> Plant:
    """Return the plant of a fault that `python -m bench anomalies` has as well."""
    return rows(table, DELIVERED[name].change)  # type: ignore[arg-type]


def nth(name: str, value: object, nth: int, kind: pa.DataType | None = None) -> Change:
    """Return the change that gives every nth row a value."""

    def change(rows: pa.Table) -> pa.Table:
        column, place = rows[name], rows.schema.get_field_index(name)
        to = kind or column.type
        some = pa.array([n % nth == 0 for n in range(rows.num_rows)])
        return rows.set_column(place, name, pc.if_else(some, pa.scalar(value, to), column.cast(to)))

    return change


def with_cashiers(rows: pa.Table) -> pa.Table:
    """Add a column that no contract knows."""
    return rows.append_column("cashier", pa.array(["A"] * rows.num_rows))


def cut(share: float) -> Callable[[Path], None]:
    """Return the change that leaves the beginning of a file."""

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return cut


def yesterdays(path: Path) -> None:
    """Deliver the file of the day before under today's name."""
    before = sorted(path.parent.iterdir())
    path.write_bytes(before[before.index(path) - 1].read_bytes())


def lines(*added: str) -> Callable[[Path], None]:
    """Return the change that adds lines to a file."""
    return lambda path: path.write_text(path.read_text() + "".join(f"{line}\n" for line in added))


def poison(**values: object) -> Callable[[Path], None]:
    """Return the change that adds to a file of events some like its first, with other values."""

    def change(path: Path) -> None:
        lines = path.read_text().splitlines()
        events = [json.loads(lines[0]) | {"event_id": str(uuid4())} | values for _ in range(3)]
        path.write_text("".join(f"{line}\n" for line in [*lines, *map(json.dumps, events)]))

    return change


def absent(table: str) -> Plant:
    """Return the plant that has a file come a day later."""
    return file(table, Path.unlink)


def stray(folder: str, name: str) -> Plant:
    """Return the plant that puts a file where none is expected."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        path = replay.landing / folder / name
        path.write_text("who knows what this is\n")
        yield
        path.unlink()

    return plant


@contextmanager
def no_landing(replay: Replay) -> Iterator[None]:
    """Have the tills' folder be away, as of a share that is not mounted."""
    folder, aside = replay.landing / "pos", replay.landing / "away"
    folder.rename(aside)
    yield
    aside.rename(folder)


# -- the CRM and the API -------------------------------------------------------------------------------------


def database(there: str, back: str) -> Plant:
    """Return the plant that changes something in the CRM, and changes it back."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        name = crm.database(replay.settings)
        replay.sql(there, database=name)
        yield
        replay.sql(back, database=name)

    return plant


def variable(name: str, value: str) -> Plant:
    """Return the plant that has a source be somewhere else, or have another key."""

    @contextmanager
    def plant(_: Replay) -> Iterator[None]:
        before = os.environ.get(name)
        os.environ[name] = value
        yield
        os.environ.pop(name) if before is None else os.environ.update({name: before})

    return plant


def answering(status: int, body: str = "{}") -> Plant:
    """Return the plant that has a service answer so in the place of the marketing system's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Keep no log."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        with HTTPServer(("127.0.0.1", 0), Handler) as service:
            thread = threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            with variable("GRANARY_MARKETING_URL", f"http://127.0.0.1:{service.server_port}")(replay):
                yield
            service.shutdown()
            thread.join()

    return plant


# -- streams and processes ------------------------------------------------------------------------------------


def lagging(seconds: float) -> Plant:
    """Return the plant of a stream that is so far behind."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        run_ledger.keep(replay.settings, lags=[Lag("events", "stream", "coupon_redemptions[0]", 9_000, None, seconds)])
        yield
        run_ledger.keep(replay.settings, lags=[Lag("events", "stream", "coupon_redemptions[0]", 0, None, 0.0)])

    return plant


def process(kind: str, name: str, *, dies: bool) -> Plant:
    """Return the plant of a process that says that it failed, or nothing any more; the next day one ends well."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        recorder = run_ledger.Recorder(replay.settings, kind, name)
        if dies:
            run_ledger.keep(replay.settings, [replace(recorder.run, status="running")])
        else:
            recorder.end(RuntimeError("the broker is away"))
        replay.move(replay.at - 11 * MINUTE)
        yield
        run_ledger.Recorder(replay.settings, kind, name).end()
        replay.move()

    return plant


def job(replay: Replay, status: str) -> None:
    """Have a job of Dagster end so."""
    run = run_ledger.Recorder(replay.settings, "job", "everything").run
    ended = run.started_at if status != "running" else None
    cause = "a step failed" if status == "failed" else None
    run_ledger.keep(replay.settings, [replace(run, status=status, finished_at=ended, cause=cause)])
    replay.move()


@contextmanager
def failing_job(replay: Replay) -> Iterator[None]:
    """Have a job of Dagster fail, and the next one succeed."""
    job(replay, "failed")
    yield
    job(replay, "succeeded")


# -- the machine and dbt -------------------------------------------------------------------------------------


@contextmanager
def full_disk(replay: Replay) -> Iterator[None]:
    """Write a file that leaves less of the disk free than may be: here, than there is now but for a little."""
    disk = shutil.disk_usage(replay.settings.home)
    limit = (disk.free - 100_000_000) / disk.total
    rule = rules.BY_KIND["disk_full"]
    path = replay.settings.home / "ballast"
    with replay.rule(replace(rule, threshold=limit)):
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 400_000_000)
        yield
        path.unlink()


def dbt(**failing: str) -> Plant:
    """Return the plant that has these nodes fail in the day's run of dbt."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        replay.builds.failing = failing
        yield
        replay.builds.failing = {}

    return plant


def builds(**how: object) -> Plant:
    """Return the plant that has runs of dbt end so for a day."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        before = {name: getattr(replay.builds, name) for name in how}
        vars(replay.builds).update(how)
        yield
        vars(replay.builds).update(before)

    return plant


@contextmanager
def shrinking(replay: Replay) -> Iterator[None]:
    """Have a mart hold publishing since it would lose most of its rows, as the plan of a publish says."""
    node = next(unique_id for unique_id, node in replay.builds.nodes.items() if node["name"] == "daily_sales")
    values = ("marts", node, "would shrink from 40,000 to 900 rows", "bench")
    replay.sql(
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id) values ($1, $2, $3, $4)", *values
    )
    with builds(rests=True)(replay):
        yield
    replay.sql("delete from ops.publish_holds where invocation_id = 'bench'")
