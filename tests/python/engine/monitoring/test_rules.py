"""The rules for alerts: sound for Prometheus, each fires when it should, and a real Alertmanager hears of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from granary.monitoring import exposition
from granary.warehouse.connection import connect, execute
from tests.python.support import prometheus

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

RULES = Path(exposition.__file__).parent / "rules" / "granary.yml"
CASES = Path(__file__).with_name("cases.yml")


def promtool(*arguments: str, given: str | None = None) -> str:
    found = prometheus.program("promtool")
    if found is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    done = subprocess.run([found, *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert "SUCCESS: 20 rules found" in promtool("check", "rules", str(RULES))


def test_promtool_finds_nothing_wrong_with_the_metrics(warehouse: Settings) -> None:
    assert promtool("check", "metrics", given=exposition.text(warehouse)) == ""


def test_each_rule_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    rules = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    cases = [one for test in yaml.safe_load(CASES.read_text())["tests"] for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in cases if one["exp_alerts"]} == rules
    assert {one["alertname"] for one in cases if not one["exp_alerts"]} == rules


def test_the_rules_fire_when_they_should(tmp_path: Path) -> None:
    cases = yaml.safe_load(CASES.read_text()) | {"rule_files": [str(RULES)]}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "cases.yml"))


def test_a_real_alertmanager_hears_of_a_hold_and_that_it_is_over(warehouse: Settings, tmp_path: Path) -> None:
    for name in ("prometheus", "prometheus-alertmanager"):
        if prometheus.program(name) is None:
            pytest.skip(f"{name} is missing: apt-get install {name}")
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)  # nobody waits an hour here
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    hold = (
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id) values ('marts', 'n', 'failed', 'i')"
    )
    with connect(warehouse) as connection:
        execute(connection, hold)
        connection.commit()
    server, thread = exposition.serve(warehouse, 0)
    target = f"127.0.0.1:{server.server_port}"
    try:
        with (
            prometheus.receiver() as (hook, got),
            prometheus.running(tmp_path, tmp_path / "rules.yml", target, hook),
        ):
            first = got.get(timeout=prometheus.PATIENCE_SECONDS)
            (alert,) = first["alerts"]
            assert first["status"] == "firing"
            assert alert["labels"]["alertname"] == "GranaryPublishHeld"
            assert alert["labels"]["severity"] == "warning"
            assert alert["annotations"]["summary"] == "1 nodes hold publishing."
            with connect(warehouse) as connection:
                execute(connection, "delete from ops.publish_holds")
                connection.commit()
            over = got.get(timeout=prometheus.PATIENCE_SECONDS)
            while over["status"] != "resolved":
                over = got.get(timeout=prometheus.PATIENCE_SECONDS)
            assert over["alerts"][0]["labels"]["alertname"] == "GranaryPublishHeld"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
