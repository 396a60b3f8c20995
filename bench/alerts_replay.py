"""The sample year, day by day, on a real server at the level of loads, ledger and checks.

Each day is delivered, loaded and looked at by what does so elsewhere, and what is wrong becomes incidents. dbt itself
does not run: how its runs end is kept by the functions of the server that it calls.

The server's clock is today's. After each step the times that it has written are moved to the day that is played, and
the views of `ops` ask the replay what time it is.
"""

from __future__ import annotations

import time as stopwatch
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench.alerts_builds import Builds
from demo import retailer
from demo.clock import NEW_YORK
from demo.copies import Scale
from granary.alerting import incidents, watch
from granary.alerting.config import load as alerts_config
from granary.load.api import load_table
from granary.monitoring.anomalies.look import look
from granary.sources.discovery import SOURCES
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.alerting.config import Config
    from granary.alerting.rules import Rule
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

MORNING, EVENING = time(6), time(18)
"""When a day that is over is loaded, and when somebody looks again."""
SERVER = {
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "4",
    "fsync": "off",
    "synchronous_commit": "off",
}
"""Slots for captures; and nothing outlives the replay."""
TOLD = """
    select alert_id, incident_id
    from ops.alerts
    where
        alert_id > $1
        and (transition = 'opened' or (transition = 'updated' and message @? '$.lines[*] ? (@[0] == "New")'))
"""
"""That an incident is still open is nothing new."""
FILES = ("parquet", "json")
POLLED = 7
"""Days after which what is no file is asked whether it has something new; also on a day with a fault."""
CLOCK = (
    "create schema bench",
    "grant usage on schema bench to public",
    "create table bench.clock (at timestamptz not null)",
    "grant select on bench.clock to public",
    "insert into bench.clock values (clock_timestamp())",
    "create function bench.now() returns timestamptz language sql stable as 'select at from bench.clock'",
    """
    do $$
    declare
        one record;
    begin
        for one in select viewname, definition from pg_views where schemaname = 'ops' and definition ~ 'now\\(\\)' loop
            execute format('create or replace view ops.%I as %s', one.viewname,
                replace(one.definition, 'now()', 'bench.now()'));
        end loop;
    end $$
    """,
    """
    create function bench.move(began timestamptz, at timestamptz) returns void language plpgsql as $$
    declare
        statement text;
        shift constant interval := at - clock_timestamp();
    begin
        for statement in
            select format(
                'update ops.%I set %s where greatest(%s) >= $1', c.relname,
                string_agg(format('%1$I = case when %1$I >= $1 then %1$I + $2 else %1$I end', a.attname), ', '),
                string_agg(format('%I', a.attname), ', ')
            )
            from pg_class as c
            inner join pg_attribute as a on a.attrelid = c.oid
            where c.relnamespace = 'ops'::regnamespace and c.relkind = 'r' and a.atttypid = 'timestamptz'::regtype
                and a.attnum > 0 and not a.attisdropped
            group by c.relname
        loop
            execute statement using began, shift;
        end loop;
        update bench.clock set at = move.at;
    end $$
    """,
)


@dataclass(frozen=True)
class Found:
    """An incident as it was told: its cause, the kinds of its signals, when, and how long after what could know."""

    incident_id: int
    cause: str
    kinds: tuple[str, ...]
    at: datetime
    seconds: float
    title: str


@dataclass
class Replay:
    """A retailer, its warehouse, and the day that is played."""

    settings: Settings
    builds: Builds = field(init=False)
    began: datetime = field(init=False)
    day: date = field(init=False)
    at: datetime = field(init=False)
    ended: datetime = field(init=False)
    told: int = 0
    polls: bool = True
    config: Config = field(default_factory=alerts_config)

    def open(self, promotions: float) -> None:
        """Start the server, with slots for captures, and open the retailer with a share of its promotions."""
        server.up(self.settings)
        with connect(self.settings, autocommit=True) as connection:
            for name, value in SERVER.items():
                execute(connection, f"alter system set {name} = {value}")
        server.down(self.settings)
        server.up(self.settings)
        self.day = retailer.open_for_business(self.settings, scale=Scale(promotions=promotions))
        with connect(self.settings, autocommit=True) as connection:
            for statement in CLOCK:
                execute(connection, statement)
            self.began = query(connection, "select clock_timestamp()")[0][0]
        self.builds = Builds(self.settings)
        self.at = self.moment(self.day, MORNING)

    @property
    def landing(self) -> Path:
        """The folder in which the tills and the event log deliver."""
        return self.settings.home / "demo" / "landing"

    @staticmethod
    def moment(day: date, hour: time) -> datetime:
        """Return when it is so late on the day after a business date."""
        return datetime.combine(day + timedelta(days=1), hour, NEW_YORK).astimezone(timezone.utc)

    def deliver(self, day: date) -> None:
        """Have business go on until the evening of a day."""
        retailer.advance(self.settings, day)
        self.day, self.at = day, self.moment(day, MORNING)

    def move(self, at: datetime | None = None) -> None:
        """Have what was written since the last time be of some moment, now if none is named."""
        with connect(self.settings, autocommit=True) as connection:
            execute(connection, "select bench.move($1, $2)", self.began, at or self.at)

    def load(self) -> None:
        """Load every table that may have something new, as a run does: one that fails stops no other."""
        run_id = str(uuid4())
        for source, table in self.tables():
            with suppress(GranaryError):  # the ledger has it
                load_table(self.settings, source, table.name, run_id=run_id)
        self.move()

    def look(self) -> None:
        """Look at what came."""
        for source, table in self.tables():
            if problem := look(self.settings, source, table).problem:
                raise AssertionError(problem)

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Yield the tables whose turn it is: files each day, what is polled once a week or if it is asked for."""
        polls = self.polls or not self.day.toordinal() % POLLED
        for source, spec in SOURCES.items():
            if not spec.capture and (polls or spec.kind in FILES):
                for table in spec.tables:
                    yield source, table

    def watch(self, since: float, *, follows: bool = False) -> list[Found]:
        """Look for incidents; return those of which something new is told, and how many seconds after `since`.

        `follows`: who watches looks every 15 seconds, and may have looked just before.
        """
        watch.once(self.settings, self.config, now=self.at, deliver=False)
        seconds = stopwatch.perf_counter() - since + (watch.EVERY_SECONDS if follows else 0)
        with connect(self.settings) as connection:
            told = query(connection, TOLD, self.told)
            self.told = max([self.told, *(alert for alert, _ in told)])
            numbers = list({number for _, number in told})
            every = incidents.load(connection, "where incident_id = any($1) order by incident_id", numbers)
        return [
            Found(
                one.incident_id,
                one.cause,
                tuple(dict.fromkeys(signal.kind for signal in one.signals)),
                self.at,
                seconds,
                one.signals[0].detail,
            )
            for one in every
        ]

    def open_causes(self) -> list[str]:
        """Return the causes of the incidents that are open."""
        return [one.cause for one in incidents.open_incidents(self.settings)]

    def run(self) -> list[Found]:
        """Load, look and build, as `granary run` does, with the look for incidents at its end."""
        self.load()
        ended = stopwatch.perf_counter()
        self.look()
        self.at = self.ended = self.builds.run(self.at, self.move)
        return self.watch(ended)

    @contextmanager
    def rule(self, rule: Rule) -> Iterator[None]:
        """Have another rule of its kind hold."""
        before = self.config
        self.config = replace(before, rules=tuple(rule if one.kind == rule.kind else one for one in before.rules))
        yield
        self.config = before

    def later(self, at: datetime) -> list[Found]:
        """Look for incidents at a later moment of the day, as who follows does."""
        self.at = at
        with connect(self.settings, autocommit=True) as connection:
            execute(connection, "update bench.clock set at = $1", at)
        return self.watch(stopwatch.perf_counter(), follows=True)

    def sql(self, statement: str, *parameters: object, database: str | None = None) -> None:
        """Do something on the server that no load does."""
        with connect(self.settings, database, autocommit=True) as connection:
            execute(connection, statement, *parameters)

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the server something."""
        with connect(self.settings) as connection:
            return query(connection, statement, *parameters)
