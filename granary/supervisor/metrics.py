"""`python -m granary.supervisor.metrics PORT`: serve what Prometheus reads, until it is ended."""

from __future__ import annotations

import sys

from granary.monitoring import exposition
from granary.warehouse.settings import Settings


def main() -> None:
    """Serve the metrics of the environment's warehouse."""
    _, thread = exposition.serve(Settings.load(), int(sys.argv[1]))
    thread.join()


if __name__ == "__main__":
    main()
