"""`granary metric` and `mf`: the same answers, with an analyst's rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import granary
from granary.dbt import metric_process
from granary.dbt.semantic import MANIFEST, Question
from granary.dbt.semantic import sql as write_sql
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import PROJECT
from tests.python.support.command import granary as command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.python.project.main_job.conftest import Year


@pytest.fixture(scope="module")
def home(year: Year) -> Iterator[Year]:
    """The year, of which this process is asked, too; the process that answers ends with the test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in year.settings.environment().items():
            patch.setenv(name, value)
        yield year
    ended = [one for one in psutil.process_iter(["cmdline"]) if metric_process.__name__ in (one.info["cmdline"] or [])]
    ended = [one for one in ended if one.environ().get("GRANARY_HOME") == str(year.settings.home)]
    assert len(ended) == 1  # however many questions there were
    (year.settings.home / metric_process.SOCKET).unlink()
    assert psutil.wait_procs(ended, timeout=60)[1] == []


def ask(year: Year, *arguments: str) -> list[dict[str, Any]]:
    done = command(year.settings, "metric", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_metrics_by_quarter_are_those_of_the_documents(home: Year) -> None:
    found = ask(home, "sales", "baskets", "--by", "metric_time__quarter")
    assert [(one["metric_time__quarter"][:10], one["sales"], one["baskets"]) for one in found] == [
        ("2017-01-01", 1103353.15, 37560),
        ("2017-04-01", 1148055.05, 39411),
        ("2017-07-01", 1149075.04, 39798),
        ("2017-10-01", 1195556.34, 39079),
    ]
    table = granary.metric("sales", "baskets", by="metric_time__quarter", order="metric_time__quarter")
    assert table["baskets"].to_pylist() == [37560, 39411, 39798, 39079]


def test_filters_days_order_and_limit(home: Year) -> None:
    in_words = "{{ Dimension('product__department') }} in ('GROCERY', 'PASTRY', 'DELI')"
    found = ask(home, "sales", "--by", "product__department", "--where", in_words, "--order", "-sales", "--limit", "2")
    assert found == [
        {"product__department": "GROCERY", "sales": 2316393.89},
        {"product__department": "DELI", "sales": 148344.06},
    ]
    found = ask(home, "active_households", "--by", "metric_time__month", "--from", "2017-02-01", "--to", "2017-03-31")
    assert [one["active_households"] for one in found] == [1948, 2025]


def test_an_analyst_sees_masks_and_who_may_sees_values(home: Year) -> None:
    question = Question(("active_households",), ("household__age_range",))
    seen = {role: {age for age, _ in answered(home, question, role)} for role in ("analyst", "analyst_pii")}
    assert seen["analyst"] == {None, "masked"}
    assert {"35-44", "65+"} < seen["analyst_pii"]
    assert "masked" not in seen["analyst_pii"]
    asked = ["query", "--metrics", "active_households", "--group-by", "household__age_range", "--quiet"]
    code = f"import sys; sys.argv[1:] = {asked}; from granary.cli.mf import main; main()"
    env = home.settings.environment()
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=env, capture_output=True, text=True, check=True
    )
    assert "masked" in said.stdout
    assert "35-44" not in said.stdout


def answered(year: Year, question: Question, role: str = "analyst") -> list[list[Any]]:
    return list(metric_process.ask(year.settings, question, role)["rows"])


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(("salez",)), "there is no metric 'salez'; did you mean sales"),
        (Question(("sales",), ("product__departmnt",)), "(product__departmnt); did you mean product__department"),
        (Question(("sales",), where=("{{ nonsense",)), "Error parsing where filter: '{{ nonsense'"),
        (Question(("sales",), order=("zz",)), "order-by item 'zz' does not match exactly one of the query items (zz)"),
    ],
)
def test_what_cannot_be_asked_is_said(home: Year, question: Question, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        answered(home, question)
    assert words in str(refused.value)


def test_the_command_says_so_in_a_line(home: Year) -> None:
    done = command(home.settings, "metric", "salez")
    assert (done.returncode, done.stderr) == (2, "granary: there is no metric 'salez'; did you mean sales?\n")


def test_what_the_server_refuses_is_said(home: Year) -> None:
    with pytest.raises(GranaryError, match="the warehouse refuses it: permission denied"):
        answered(home, Question(("sales",)), "monitor")


def test_every_metric_can_be_asked_by_an_analyst(home: Year) -> None:
    """Asked for no row, the server still says what may not be read."""
    names = json.loads((home.settings.home / "dagster" / "dbt" / MANIFEST).read_text())["metrics"]
    with connect(home.settings, role="analyst") as connection:
        for name in (str(one["name"]) for one in names):
            sql = write_sql(home.settings, Question((name,), ("metric_time__month",)))
            execute(connection, f"explain {sql}")
    assert len(names) > 60


def test_the_query_is_shown_and_not_run(home: Year) -> None:
    done = command(home.settings, "metric", "sales", "--sql")
    assert '"marts"."fct_sales"' in done.stdout
    assert "4596039" not in done.stdout


def test_the_socket_is_its_owners_alone(home: Year) -> None:
    answered(home, Question(("sales",)))
    status = (home.settings.home / metric_process.SOCKET).stat()
    assert (status.st_mode & 0o077, status.st_uid) == (0, os.geteuid())
