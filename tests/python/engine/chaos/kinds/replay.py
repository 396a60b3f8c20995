"""The quarantine's way back: rows that were refused are corrected and replayed, while files come and are corrected."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.quarantine.replay import entries, replay
from tests.python.engine.chaos.kinds.files import FilesWorld, source
from tests.python.engine.chaos.world import REFUSED, Rows, load_all

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class ReplayLoader:
    """Loads the landing zone, then replays everything that was refused, with an amount of nothing."""

    folder: str

    def load(self, settings: Settings) -> None:
        """Load and replay."""
        spec = source(self.folder)
        load_all(settings, spec)
        replay(settings, entries(settings, tables=[(spec.name, table.name) for table in spec.tables]), {"amount": "0"})


class ReplayWorld(FilesWorld):
    """Files in whose place every refused row must be there once, corrected, until its file is delivered anew."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.loader = ReplayLoader(str(self.folder))

    def truth(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {"sales": Counter(), "visits": Counter(), REFUSED: Counter()}
        for path, content in self.files.items():
            found[path.parent.name].update((number, place, max(amount, 0)) for number, place, amount in content)
        return found
