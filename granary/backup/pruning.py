"""What a destination keeps: so many series of backups, and every moment of so many days."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from granary.backup import catalog
from granary.backup.log import PARTIAL, SEGMENT, SEGMENT_BYTES, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.backup.catalog import Backup
    from granary.backup.config import Config
    from granary.readers.files.destination import Destination


def kept(every: Sequence[Backup], config: Config, now: datetime) -> list[Backup]:
    """Return the backups that stay: the last series, and those from which a moment of the days can be restored.

    A series is a full backup with what stands on it; the moments between two series are restored from the first.
    """
    series: list[list[Backup]] = []
    for one in every:
        if one.parent is None:
            series.append([])
        if series:
            series[-1].append(one)
    oldest = now - timedelta(days=config.keep_days)
    reaching = [place for place, one in enumerate(series) if one[0].finished <= oldest]
    first = min(max(len(series) - config.keep_full, 0), reaching[-1] if reaching else 0)
    return [one for group in series[first:] for one in group]


def prune(place: Destination, config: Config, now: datetime | None = None) -> list[str]:
    """Remove what the policy does not keep, the description first; return the backups that are gone."""
    every = catalog.backups(place)
    moment = now or datetime.now(timezone.utc)
    stays: list[Backup] = []
    for logical in (True, False):
        stays += kept([one for one in every if (one.kind == "logical") == logical], config, moment)
    names = {one.name for one in stays}
    gone = [one.name for one in every if one.name not in names]
    for name in gone:
        files = place.names(f"{catalog.BACKUPS}/{name}")
        for file in sorted(files, key=lambda file: not file.endswith(f"/{catalog.DESCRIPTION}")):
            place.remove(file)
    starts = [one.start // SEGMENT_BYTES for one in stays if one.kind != "logical"]
    if starts:
        for file in place.names(catalog.WAL):
            name = file.rpartition("/")[2]
            found = SEGMENT.fullmatch(name) or PARTIAL.fullmatch(name)
            if found and number_of(found[1]) < min(starts):
                place.remove(file)
    return gone
