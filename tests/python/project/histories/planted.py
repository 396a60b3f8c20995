"""Wrong declarations, planted beside the right ones: each is that of a copy of its model, built by the same builds.

A copy reads what its model reads. If it comes to differ from the model, its declaration is caught: a full refresh says
that the model is right.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from granary.warehouse.connection import connect
from tests.python.project.histories.proof import digests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.python.project.histories.proof import Proof

    Change = Callable[[dict[str, Any]], None]
    """Makes the description of a model wrong."""

SCHEMA = "planted"
DOCUMENT = re.compile(r"'(\{\"model\": .*?\})'(?=[,)])", re.DOTALL)
HOOKS = ("ops.create_declared_indexes", "ops.audit", "ops.record_unpublished", "analyze ")


@dataclass(frozen=True)
class Fault:
    """A wrong declaration: of which model, and how it is wrong."""

    model: str
    what: str
    change: Change


@dataclass
class Planted:
    """The faults, by the name of their copy, and which history caught each."""

    proof: Proof
    faults: dict[str, Fault] = field(default_factory=dict)
    caught: dict[str, int] = field(default_factory=dict)

    def plant(self, only: Collection[tuple[str, str]] = ()) -> None:
        """Make the copies, of all faults or of these, and have all builds build them."""
        builds = self.proof.builds
        statements = [f"create schema {SCHEMA}", f"grant all on schema {SCHEMA} to transformer"]
        for node in [node for node in builds.manifest.nodes.values() if node.resource_type == "model"]:
            if node.config.incremental_strategy != "overwrite_partitions":
                continue
            for what, change in _faults(node.config.meta):
                if only and (f"{node.schema}.{node.alias}", what) not in only:
                    continue
                name = f"fault_{len(self.faults) + 1}"
                self.faults[name] = Fault(f"{node.schema}.{node.alias}", what, change)
                statements.append(f"create table {SCHEMA}.{name} as table {node.schema}.{node.alias}")
                for variant in builds.variants.values():
                    for sent in variant.sent.values():
                        sent[f"{SCHEMA}.{name}"] = self._copied(name, sent[node.unique_id])
        statements += [f"alter table {SCHEMA}.{name} owner to transformer" for name in self.faults]
        self.proof.pipeline.execute(*statements)
        copies = {f"{SCHEMA}.{name}" for name in self.faults}
        builds.build("plain", nodes=copies, anew=copies)
        self.proof.keep()

    def look(self, history: int) -> None:
        """Compare each copy with its model, after a build of everything."""
        left = {name: fault.model for name, fault in self.faults.items() if name not in self.caught}
        if not left:
            return
        copies = {f"{SCHEMA}.{name}": self.proof.columns[model] for name, model in left.items()}
        with connect(self.proof.pipeline.settings) as connection:
            found = digests(connection, self.proof.columns | copies, [*copies, *sorted(set(left.values()))])
        for name, model in left.items():
            if found[f"{SCHEMA}.{name}"] != found[model]:
                self.caught[name] = history

    def _copied(self, name: str, statements: list[str]) -> list[str]:
        fault = self.faults[name]
        schema, _, model = fault.model.partition(".")
        names = (
            (rf'(\\?"){schema}(\\?"\.\\?"){model}(__\w+)?(\\?")', rf"\g<1>{SCHEMA}\g<2>{name}\g<3>\g<4>"),
            (rf"(?<=['\"]){schema}\.{model}(?=['\"])", f"{SCHEMA}.{name}"),
            (rf'(?<!\.)"{model}(__dbt_\w+)"', rf'"{name}\1"'),
            (rf'(?<=rename to )"{model}"', f'"{name}"'),
        )
        copied = []
        for statement in statements:
            if not any(hook in statement for hook in HOOKS):
                sql = DOCUMENT.sub(self._wrong(fault), statement)
                for said, instead in names:
                    sql = re.sub(said, instead, sql)
                copied.append(sql)
        return copied

    def _wrong(self, fault: Fault) -> Callable[[re.Match[str]], str]:
        def change(found: re.Match[str]) -> str:
            document = json.loads(found[1].replace("''", "'"))
            fault.change(document)
            return "'" + json.dumps(document).replace("'", "''") + "'"

        return change


def _faults(meta: dict[str, Any]) -> list[tuple[str, Change]]:
    """Return how a model's declaration can be wrong: in words, and as a change of its description."""
    found: list[tuple[str, Change]] = []
    for name, by in meta.get("changed_by", {}).items():
        if by == "never":
            continue
        found.append((f"{name}: never", _by(name, lambda _: "never")))
        if not re.match(r"all|rebuild", by):
            found += [
                (f"{name}: only what {word}", _by(name, lambda by, sign=sign: _only(by, sign)))
                for word, sign in (("came", ">"), ("went", "<"))
            ]
    found += [(f"{name}: not in depends_on_vars", _forget_vars) for name in meta.get("depends_on_vars", [])]
    if "changes" in meta:
        found += [
            (f"{meta['changes']}: {reason} left out", _without(reason)) for reason in ("late", "replaced", "erased")
        ]
    return found


def _by(name: str, wrong: Callable[[str], str]) -> Change:
    def change(document: dict[str, Any]) -> None:
        [key] = [key for key in document["inputs"] if key.endswith(f".{name}")]
        document["inputs"][key] = wrong(document["inputs"][key])

    return change


def _only(by: str, sign: str) -> str:
    query = by if re.match(r"(select|with)\s", by, re.IGNORECASE) else f"select distinct {by} from changes"
    return f"with changes as (select * from changes where sign {sign} 0) select one.* from ({query}) as one"


def _forget_vars(document: dict[str, Any]) -> None:
    document["fingerprint"] = "x"


def _without(reason: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["log"] += f" where log.reason <> '{reason}'"

    return change
