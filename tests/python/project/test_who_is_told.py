"""The page "who is told what, when" says what alerts.yml and the rules say now."""

from __future__ import annotations

from granary.alerting import config
from granary.alerting.policy import page
from granary.warehouse.project import PROJECT


def test_the_page_is_that_of_the_configuration() -> None:
    """If it is not: `granary alerts policy > docs/who-is-told.md`."""
    assert (PROJECT / "docs" / "who-is-told.md").read_text() == page(config.load(PROJECT / "alerts.yml"))
