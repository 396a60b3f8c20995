"""Drivers of a stream by Spark killed at random moments, by the number: `python -m tests.python.spark.kills 50`.

A slice of the sample's year gets its events by Kafka, some late and some twice, in small batches. Drivers are killed by
SIGKILL, one in four at any moment of its life, the others at one of its work, until so many were; the last is left in
peace. A driver that came to the end is sent all events again. Raw, ledger and what the stream computed are compared
after each, and with what a batch makes of it at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.settings import Settings
from tests.python.spark.test_event_models import BUILT, FRESH, MODELS, RAW, TOPIC, Year, opened
from tests.python.support.stream_servers import broker, command, positions

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_ROWS = "4"
ANY_MOMENT = 0.25
"""The share of drivers that are killed at any moment of their life, most of which is the start."""
WORK_SECONDS = 4.0
"""How long after its first commit another is killed at the latest."""


def main(kills: int, seed: int) -> int:
    """Kill so many drivers, print what came of it, and return the exit code."""
    chance = random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="granary-kills-", dir="/tmp"))
    home.chmod(0o755)
    os.environ["GRANARY_HOME"] = str(home)
    settings = Settings.load()
    server.up(settings)
    try:
        with broker() as kafka:
            year = opened(settings, home / "target")
            kafka.topic(TOPIC, partitions=2)
            os.environ["GRANARY_EVENTS_STREAM"] = f"kafka://{kafka.hosts}"
            half = len(year.events) // 2
            sent = year.events[half:][::-1] + year.events[:half] + chance.sample(year.events, half)

            def send() -> None:
                kafka.produce(((n % 2, json.dumps(one).encode()) for n, one in enumerate(sent)), TOPIC)

            send()
            wrong = strike(year, kills, chance, send)
            year.build("--select", *MODELS)
            batch = year.rows(BUILT)
            wrong += check(year) + (batch != year.rows(FRESH)) + (len(batch) != len(year.events))
            print(f"{len(batch)} events, built: {'wrong' if wrong else 'equal'}")
            return 1 if wrong else 0
    finally:
        server.down(settings)


def strike(year: Year, kills: int, chance: random.Random, send: Callable[[], None]) -> int:
    """Kill drivers, and let the last one end; return how often what was there was wrong."""
    wrong, done, seconds = 0, 0, 30.0
    while done < kills:
        driver = command("stream", "events", "--once", "--spark", "local[1]", "--batch-rows", BATCH_ROWS)
        began, before, position = time.monotonic(), landed(year), positions(year.settings)
        try:
            if chance.random() < ANY_MOMENT:
                driver.wait(chance.uniform(0, seconds))
            else:
                while positions(year.settings) == position and driver.poll() is None:
                    time.sleep(0.1)
                driver.wait(chance.uniform(0, WORK_SECONDS))
            seconds, ended = time.monotonic() - began, True
            send()
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            done, ended = done + 1, False
        wrong += check(year)
        print(f"{done}: {'ended' if ended else 'killed'} after {time.monotonic() - began:.1f} s,"
              f" {before} rows before and {landed(year)} after, wrong {wrong}", flush=True)  # fmt: skip
    assert year.by_spark() == 0
    return wrong


def landed(year: Year) -> int:
    return len(year.rows(RAW))


def check(year: Year) -> int:
    """Return 1 unless raw, ledger, positions and what the stream computed agree."""
    with connect(year.settings) as connection:
        ids = query(connection, f"select count(*), count(distinct event_id) from {RAW}")[0]
        ledger = query(
            connection, "select coalesce(sum(rows_loaded), 0) >= $1 from ops.load_audit where source = 'events'", ids[0]
        )
        held = query(connection, "select to_regclass($1) is not null", FRESH)[0][0]
        computed: list[Any] = [ids[0]]
        if held:
            computed = [
                query(connection, f"select count(*) from {FRESH} as f join {RAW} as r on r.event_id = f.redemption_id")[
                    0
                ][0]
            ]
            computed.append(query(connection, f"select count(*) from {FRESH}")[0][0])
    good = ids[0] == ids[1] and ledger == [(True,)] and set(computed) == {ids[0]}
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 2017))
