"""Edited models: each model with each small edit is built with all that follows, and the tests are asked.

Everything is built anew in a transaction that is rolled back. An edit that changes no row of any model and fails no
unit test makes no difference on this data: it is told apart from one that survives, which changes what people read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from psycopg import Error

from granary.warehouse.connection import connect
from tests.python.project.histories.proof import digests
from tests.python.project.histories.recorded import AuditError
from tests.python.project.mutants.checks import data_tests, failing, unit_tests
from tests.python.project.mutants.edits import edited, edits

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from tests.python.project.histories.recorded import Builds
    from tests.python.project.mutants.edits import Edit

Change = Callable[[str], str]
VARIANT = "plain"
"""The vars with which so few households have campaigns that can be compared."""
UNEDITED = "cannot be edited"
SAME = "makes no difference"
SURVIVED = "survived"


@dataclass(frozen=True)
class Mutant:
    """A model with an edit."""

    model: str
    edit: Edit

    def __str__(self) -> str:
        """Return the mutant on one line."""
        return f"{self.model.rpartition('.')[2]}: {self.edit}"


@dataclass(frozen=True)
class Verdict:
    """Which sort of check was the first to catch a mutant, and its name; or why none was. `also`: tests beside it."""

    by: str
    name: str = ""
    also: tuple[str, ...] = ()

    @property
    def is_caught(self) -> bool:
        """Return whether a check caught it."""
        return self.by not in (SURVIVED, SAME, UNEDITED)

    def names(self, test: str) -> bool:
        """Return whether a data test caught it, first or beside another, by itself or as an audit."""
        return test in self.also or test in re.findall(r"\w+", self.name)


@dataclass
class Models:
    """The models of a warehouse in which everything has been built, with their tests."""

    builds: Builds
    columns: dict[str, str]
    _written: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Collect what there is to ask."""
        self.tests = data_tests(self.builds)
        self.unit_tests = unit_tests(self.builds)
        self.order = self.builds.nodes()
        self.code = self.builds.variants[VARIANT].code
        with connect(self.builds.settings, role="transformer") as connection:
            self.broken = {test.name for test in self.tests if test.fails(connection)}
            self.before = digests(connection, self.columns, sorted(self.columns))
            connection.rollback()

    def mutants(self, most: int, seed: int) -> list[Mutant]:
        """Return at most so many mutants of each model: of each kind of edit as evenly as it goes."""
        chosen = []
        for model in self.order:
            by_kind: dict[str, list[Edit]] = {}
            for edit in edits(self.code[model]):
                by_kind.setdefault(edit.kind, []).append(edit)
            random = Random(f"{seed} {model}")
            for kind in by_kind.values():
                random.shuffle(kind)
            kinds = sorted(by_kind)
            random.shuffle(kinds)
            rounds = range(max(map(len, by_kind.values()), default=0))
            in_turn = [by_kind[kind][n] for n in rounds for kind in kinds if n < len(by_kind[kind])]
            chosen += [Mutant(model, edit) for edit in in_turn[:most]]
        return chosen

    def verdict(self, mutant: Mutant) -> Verdict:
        """Return what catches a mutant."""
        with (
            connect(self.builds.settings, role="transformer") as connection,
            connection.transaction(force_rollback=True),  # those below are savepoints in it
        ):
            if not self._can_be_edited(connection, mutant.model):
                return Verdict(UNEDITED)
            for unit_test in self.unit_tests.get(mutant.model, ()):
                if unit_test.fails(connection, mutant.edit):
                    return Verdict("unit test", unit_test.name)
            return self._built(connection, mutant)

    def prove_nothing_is_left(self) -> None:
        """Compare all rows with those before the first edit.

        Raises:
            AssertionError: an edit was not rolled back, and verdicts after it are of two edits.
        """
        with connect(self.builds.settings, role="transformer") as connection:
            after = digests(connection, self.columns, sorted(self.columns))
        if left := [name for name in self.before if self.before[name] != after[name]]:
            raise AssertionError(f"an edit was left behind in {', '.join(left)}")

    def _built(self, connection: Connection, mutant: Mutant) -> Verdict:
        for node, ready in self._following(mutant.model):
            change = self._change(mutant.model, mutant.edit) if node == mutant.model else None
            try:
                with connection.transaction():
                    self.builds.rebuild(VARIANT, connection, node, change)
            except AuditError as error:
                return Verdict("audit", f"{node.rpartition('.')[2]}: {str(error).partition(': ')[2]}")
            except Error as error:
                return Verdict("build", f"{node.rpartition('.')[2]}: {type(error).__name__}")
            tests = [test for test in self.tests if test.name not in self.broken and test.name in ready]
            if names := failing(tests, connection):
                return Verdict("data test", names[0], names[1:])
        after = digests(connection, self.columns, sorted(self.columns))
        return Verdict(SAME if self.before == after else SURVIVED)

    def _following(self, model: str) -> Iterator[tuple[str, set[str]]]:
        """Yield a model and what reads it, directly or not, in the order of building, each with the tests due then."""
        nodes = [model]
        for node in self.order:
            if set(self.builds.manifest.parent_map[node]).intersection(nodes):
                nodes.append(node)
        left = {test.name: test.nodes.intersection(nodes) for test in self.tests if test.nodes.intersection(nodes)}
        built: set[str] = set()
        for node in nodes:
            built.add(node)
            ready = {name for name, needed in left.items() if needed <= built}
            left = {name: needed for name, needed in left.items() if name not in ready}
            yield node, ready

    def _change(self, model: str, edit: Edit | None) -> Change:
        code, instead = self.code[model], edited(self.code[model], edit)
        assert instead is not None
        return lambda sql: sql.replace(code, instead)

    def _can_be_edited(self, connection: Connection, model: str) -> bool:
        """Return whether the model, written anew without an edit, is the same model."""
        if model not in self._written:
            node = self.builds.manifest.nodes[model]
            names = [name for name in (f"{node.schema}.{node.alias}",) if name in self.columns]
            with connection.transaction(force_rollback=True):
                self.builds.rebuild(VARIANT, connection, model, self._change(model, None))
                after = digests(connection, self.columns, names) if names else {}
            self._written[model] = after == {name: self.before[name] for name in names}
        return self._written[model]
