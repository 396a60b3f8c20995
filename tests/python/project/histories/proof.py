"""A history of the warehouse, and whether its increments are what a full refresh makes of the same raw tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from tests.python.project.histories.recorded import Builds
from tests.python.project.histories.world import STEPS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from granary.warehouse.connection import Connection
    from tests.python.project.pipeline.conftest import Pipeline

Columns = dict[str, str]
"""Relation -> its columns, as a list in SQL."""
Digest = tuple[int, int]
"""Rows, and the sum of their hashes: equal for equal multisets of rows."""
Found = tuple[str, tuple[str, ...]]
"""What differs, and some of the rows."""
BEGINNING = "_beginning"
"""What the names of the copy end with that each history begins with."""
DIGEST = "select {name}, {count}, coalesce(sum({sign} * hashtextextended(({row})::text, 0)::numeric), 0)"
KEEPER = "histories.keeper"
STEPS_BY_NAME = {step.__name__: step for step in STEPS}


@dataclass(frozen=True)
class Step:
    """What happens: by name, from a seed; whether everything is built after it, and whether that is proven then."""

    name: str
    seed: int
    is_built: bool
    is_proven: bool

    def __str__(self) -> str:
        """Return the step on one line."""
        return f"{self.name.replace('_', ' ')} ({self.seed}){'' if self.is_built else ', not built'}"


History = list[Step]


@dataclass(frozen=True)
class Difference:
    """Where the increments are wrong, after a step, with some of the rows."""

    after: str
    what: str
    rows: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it with its rows below."""
        return "\n".join([f"after {self.after}: {self.what}", *(f"    {row}" for row in self.rows)])


@dataclass
class Proof:
    """A warehouse in which history after history begins anew."""

    pipeline: Pipeline
    builds: Builds
    watch: Callable[[], None] = lambda: None
    builds_done: int = 0
    refreshes_done: int = 0
    names: list[str] = field(default_factory=list)
    columns: Columns = field(default_factory=dict)

    def keep(self) -> None:
        """Make what there is now the beginning of each history."""
        self.names = _relations(self.pipeline)
        self.columns = _columns(self.pipeline)
        self.pipeline.copy("", BEGINNING)

    def begin(self) -> None:
        """Go back to the beginning."""
        self.pipeline.copy(BEGINNING, "")
        server.prepare(self.pipeline.settings)  # the grants on a database are not copied with it

    def run(self, history: Iterable[Step]) -> Difference | None:
        """Play a history; return the first difference."""
        self.begin()
        world = World(self.pipeline, self.builds)
        keeper = Keeper(self.pipeline, self.columns)
        step = Step("the beginning", 0, is_built=True, is_proven=True)
        try:
            for step in history:
                STEPS_BY_NAME[step.name](world, Random(step.seed))
                if step.is_built:
                    world.build()
                    self.builds_done += 1
                    if found := self._look(world, keeper, is_proven=step.is_proven):
                        return Difference(str(step), *found)
            world.build()
            found = self._look(world, keeper, is_proven=True)
        except Exception as error:  # it must not break a build either
            return Difference(str(step), f"{type(error).__name__}: {error}")
        return Difference("the last step", *found) if found else None

    def shrink(self, history: History, progress: Callable[[str], None]) -> tuple[History, Difference]:
        """Leave out steps, the latest first, for as long as there is a difference; return what is left, and it."""
        found = self.run(history)
        assert found, "the same history has had a difference"
        size = max(1, len(history) // 2)
        while True:
            for start in range(len(history) - size, -1, -size):
                shorter = history[:start] + history[start + size :]
                if shorter and (other := self.run(shorter)):
                    history, found = shorter, other
                    progress(f"{len(history)} steps: {other.what}")
            if size == 1:
                return history, found
            size //= 2

    def _look(self, world: World, keeper: Keeper, *, is_proven: bool) -> Found | None:
        self.watch()
        return keeper.differences() or self._published() or (self._refreshed(world) if is_proven else None)

    def _refreshed(self, world: World) -> Found | None:
        """Compare everything with a full refresh."""
        self.refreshes_done += 1
        with connect(self.pipeline.settings) as connection:
            before = digests(connection, self.columns, self.names)
        with self.builds.refreshed(world.variant) as connection:
            after = digests(connection, self.columns, self.names)
        wrong = [name for name in self.names if before[name] != after[name]]
        if not wrong:
            return None
        self.pipeline.execute(
            "create schema kept",
            *(f'create table kept."{name}" as table {name}' for name in wrong),
            "grant usage on schema kept to public",
            "grant select on all tables in schema kept to public",
        )
        shown = []
        with self.builds.refreshed(world.variant) as connection:
            for name in wrong[:3]:
                for word, sides in (("is", (f'kept."{name}"', name)), ("not", (name, f'kept."{name}"'))):
                    differ = f"select t::text from (table {sides[0]} except all table {sides[1]}) as t limit 4"
                    shown += [f"{name} {word} {row[0]}" for row in query(connection, differ)]
        self.pipeline.execute("drop schema kept cascade")
        return f"{', '.join(wrong)} differ from a full refresh", tuple(shown)

    def _published(self) -> Found | None:
        """Compare what people read with what was built."""
        there = [name for name in self.columns if name.startswith(("marts.", "personal."))]
        pairs = {f"build.{name.partition('.')[2]}": name for name in there}
        with connect(self.pipeline.settings) as connection:
            found = digests(connection, self.columns, [*pairs, *pairs.values()])
        wrong = [shown for built, shown in pairs.items() if found[built] != found[shown]]
        return (f"{', '.join(wrong)} differ from what was built", ()) if wrong else None


PLAIN = {"campaign_strata": 1, "campaign_matching_days": 5, "affinity_min_support": 0.001}
"""Vars with which campaigns of so few households are compared at all."""
PLACEMENTS = 5
"""Of so many placements one is kept: the histories need not many, and they are most of what there is."""


def beginning(pipeline: Pipeline, variants: Mapping[str, Mapping[str, object]]) -> Proof:
    """Record how a warehouse is built in which everything has been built once, and begin with it as it is."""
    for path in sorted((pipeline.settings.home / "demo" / "stock" / "pos" / "promotions").iterdir()):
        rows = pq.read_table(path)
        pq.write_table(rows.take(list(range(0, rows.num_rows, PLACEMENTS))), path)
    builds = Builds(pipeline.settings, pipeline.target)
    for name, variables in {**variants, "plain": PLAIN}.items():
        builds.record(name, variables)
    proof = Proof(pipeline, builds)
    proof.keep()
    return proof


class Keeper:
    """A reader of every model that goes by differences only: it counts what went and came."""

    def __init__(self, pipeline: Pipeline, columns: Columns) -> None:
        """Begin with what there is now."""
        self._pipeline, self._columns = pipeline, columns
        self._models = sorted(name for name in columns if f"{name}__delta" in columns)
        with connect(pipeline.settings) as connection:
            self._rows = digests(connection, columns, self._models)
            self._remember(connection)
            connection.commit()

    def differences(self) -> Found | None:
        """Take in what has changed, and compare; a model that was built anew is looked at anew."""
        with connect(self._pipeline.settings) as connection:
            state = f"select fingerprint, inputs from ops.model_states where model = '{KEEPER}'"
            [(_, inputs)] = query(connection, state)
            anew = query(
                connection,
                f"select model from ops.model_versions cross join ({state}) as kept"
                " where version > (inputs ->> model)::bigint"
                " group by model having bool_or(is_whole or fingerprint = '')",
            )
            rows, moved = digests(connection, self._columns, self._models), self._moved(connection, inputs)
            self._remember(connection)
            connection.commit()
        expected = {model: tuple(map(sum, zip(self._rows[model], moved[model], strict=True))) for model in self._models}
        followed = set(self._models) - {str(model) for (model,) in anew}
        wrong = sorted(model for model in followed if expected[model] != rows[model])
        self._rows = rows
        return (f"what {', '.join(wrong)} hand on is not how they changed", ()) if wrong else None

    def _moved(self, connection: Connection, inputs: dict[str, int]) -> dict[str, Digest]:
        parts = []
        for model in self._models:
            row = f"row({self._columns[model]})"
            digest = DIGEST.format(name=f"'{model}'", count="coalesce(sum(sign), 0)", sign="sign", row=row)
            parts.append(f"{digest} from {model}__delta where version > {inputs[model]}")
        return _read(connection, parts)

    def _remember(self, connection: Connection) -> None:
        latest = "select max(version) from ops.model_versions where model = name"
        names = json.dumps(self._models)
        execute(
            connection,
            "insert into ops.model_states (model, fingerprint, inputs)"
            f" select '{KEEPER}', 'x', jsonb_object_agg(name, coalesce(({latest}), 0))"
            f" from jsonb_array_elements_text('{names}') as name"
            " on conflict (model) do update set fingerprint = 'x', inputs = excluded.inputs",
        )


def history(seed: int, length: int = 8) -> History:
    """Return the history of a seed; of as many in a row as there are kinds of steps, each kind is in one."""
    random = Random(seed)
    names = [step.__name__ for step in STEPS]
    first = Step("months_pass", random.randrange(10**6), is_built=True, is_proven=False)
    steps = [first]
    for name in random.choices(names, list(STEPS.values()), k=random.randint(2, length)):
        built = random.random() < 0.75
        steps.append(Step(name, random.randrange(10**6), is_built=built, is_proven=built and random.random() < 0.2))
    due = Step(names[seed % len(names)], random.randrange(10**6), is_built=True, is_proven=False)
    steps.insert(random.randint(1, len(steps)), due)
    return steps


def digests(connection: Connection, columns: Columns, names: Iterable[str]) -> dict[str, Digest]:
    """Return the digest of each relation, as it is now."""
    parts = [
        DIGEST.format(name=f"'{name}'", count="count(*)", sign="1", row=f"row({columns[name]})") + f" from {name}"
        for name in names
    ]
    return _read(connection, parts)


def _read(connection: Connection, parts: Sequence[str]) -> dict[str, Digest]:
    rows = query(connection, " union all ".join(parts))
    return {str(name): (int(count), int(total)) for name, count, total in rows}


def _relations(pipeline: Pipeline) -> list[str]:
    """Return what dbt has built and a full refresh makes again: not the logs of changes, which only grow."""
    rows = pipeline.query(
        "select n.nspname || '.' || c.relname from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace"
        " where n.nspname in ('build', 'intermediate') and c.relkind in ('r', 'v')"
        " and c.relname !~ '__(delta|changed_dates|changed_weeks|unknown_members)$' order by 1"
    )
    return [str(name) for (name,) in rows]


def _columns(pipeline: Pipeline) -> Columns:
    rows = pipeline.query(
        "select n.nspname || '.' || c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attnum)"
        " from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace"
        " inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " and a.attname not in ('version', 'sign')"
        " where n.nspname in ('build', 'intermediate', 'marts', 'personal')"
        " and (c.relkind = 'r' or c.relkind = 'v' and n.nspname in ('build', 'intermediate')) group by 1"
    )
    return {str(name): str(columns) for name, columns in rows}
