"""`python -m granary.supervisor.alerts`: look what is wrong and tell whom it concerns, until it is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.alerting import watch
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from granary.alerting.watch import Watched


def main() -> None:
    """Watch the environment's warehouse; what fails is said once, and tried again."""
    watch.follow_until_ended(Settings.load(), _problem)


def _problem(done: Watched | GranaryError) -> str:
    return f"granary: {done}" if isinstance(done, GranaryError) else ""


if __name__ == "__main__":
    main()
