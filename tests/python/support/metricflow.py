"""Asks MetricFlow many questions in one process, since each start takes seconds.

As a program (`python -m tests.python.support.metricflow`) it reads requests as JSON and writes the answers' rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from granary.cli import mf
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What `mf query` would be given; `start` and `end` are ISO dates, both included."""

    metrics: Sequence[str]
    by: Sequence[str] = ()
    start: str | None = None
    end: str | None = None
    fault: dict[str, str] = field(default_factory=dict)
    """Measures and entities, as `semantic_model.element`, with a wrong expression to ask the question with."""


def ask(settings: Settings, questions: Sequence[Question]) -> list[list[Row]]:
    """Return the rows that answer each question, as column to value; numbers are floats or integers, dates ISO."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=PROJECT,
        # Counting different products over a million lines would otherwise sort them on disk.
        env=settings.environment() | {"PGOPTIONS": "-c work_mem=256MB"},
        input=json.dumps([asdict(question) for question in questions]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[list[Row]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def main() -> None:
    """Answer the questions on stdin."""
    mf.stand_in()
    mf.prepare(Settings.load())
    from dbt_metricflow.cli.cli_configuration import CLIConfiguration  # noqa: PLC0415
    from metricflow.engine.metricflow_engine import MetricFlowEngine, MetricFlowQueryRequest  # noqa: PLC0415
    from metricflow_semantics.model.dbt_manifest_parser import (  # noqa: PLC0415
        parse_manifest_from_dbt_generated_manifest,
    )
    from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup  # noqa: PLC0415

    configuration = CLIConfiguration()
    configuration.setup(configure_file_logging=False)
    definitions = (PROJECT / "target" / mf.MANIFEST).read_text()
    engines: dict[str, MetricFlowEngine] = {}
    answers = []
    for question in (Question(**one) for one in json.load(sys.stdin)):
        text = faulty(definitions, question.fault)
        if text not in engines:
            lookup = SemanticManifestLookup(parse_manifest_from_dbt_generated_manifest(text))
            engines[text] = MetricFlowEngine(lookup, configuration.sql_client)
        request = MetricFlowQueryRequest.create(
            metric_names=list(question.metrics),
            group_by_names=list(question.by),
            time_constraint_start=_instant(question.start),
            time_constraint_end=_instant(question.end),
        )
        table = engines[text].query(request).result_df
        assert table is not None
        answers.append([dict(zip(table.column_names, row, strict=True)) for row in table.rows])
    print(json.dumps(answers, default=str))


def faulty(definitions: str, fault: dict[str, str]) -> str:
    """Return the semantic manifest with other expressions of some measures and entities."""
    manifest = json.loads(definitions)
    elements = {
        f"{model['name']}.{element['name']}": element
        for model in manifest["semantic_models"]
        for element in model["measures"] + model["entities"]
    }
    for name, wrong in fault.items():
        elements[name]["expr"] = wrong
    return json.dumps(manifest)


def _instant(date: str | None) -> Any:
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(date) if date else None


if __name__ == "__main__":
    main()
