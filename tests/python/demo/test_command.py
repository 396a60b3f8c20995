"""The command of the sample: a date that is none is said before anything is opened."""

from __future__ import annotations

from typer.testing import CliRunner

from granary.cli.main import app
from granary.warehouse.errors import UsageError


def test_a_date_that_is_none_is_said() -> None:
    done = CliRunner().invoke(app, ["demo", "advance", "--to", "2017-02-30"])
    assert done.exit_code == 2 or isinstance(done.exception, UsageError)
    assert "'2017-02-30' is not a date" in done.output + done.stderr + str(done.exception)
