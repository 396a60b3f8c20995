"""Where the pages for people are, as the reader's browser reaches them: documentation, Dagster, dashboard.

They are served on this machine while `granary docs`, `granary ui` and `granary dashboard` run; another place is set
by `GRANARY_DOCS_URL`, `GRANARY_DAGSTER_URL` and `GRANARY_DASHBOARD_URL`. Where one is empty, nothing links to it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS, DAGSTER, DASHBOARD = "http://127.0.0.1:8080/", "http://127.0.0.1:3000/", "http://127.0.0.1:8090/"
VARIABLES = {"docs": "GRANARY_DOCS_URL", "dagster": "GRANARY_DAGSTER_URL", "dashboard": "GRANARY_DASHBOARD_URL"}
COMMANDS = {"docs": "granary docs", "dagster": "granary ui", "dashboard": "granary dashboard"}
DIAGRAM, LINEAGE = "marts.html", "lineage.html"
"""The pages of the documentation that have a section for each mart, and say where each column comes from."""


@dataclass(frozen=True)
class Links:
    """Where the neighbours are; empty leaves their links out. A relative one is seen from the page that links."""

    docs: str = DOCS
    dagster: str = DAGSTER
    dashboard: str = DASHBOARD

    def __post_init__(self) -> None:
        """Refuse what is not an address of a page.

        Raises:
            GranaryError: an address would run something, or open something else than a page.
        """
        for field in fields(self):
            address = str(getattr(self, field.name))
            if re.match(r"\s*[a-z][a-z0-9+.-]*:", address, re.IGNORECASE) and not re.match(r"https?://", address):
                raise GranaryError(
                    f"{address[:80]!r} is not an address of a page", todo="begin with http:// or https://"
                )

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Links:
        """Return the addresses that the environment names, else those on this machine."""
        return cls(**{name: environ[variable] for name, variable in VARIABLES.items() if variable in environ})

    def commands(self, *names: str) -> list[str]:
        """Return the commands that serve those of the neighbours that are where they are by default."""
        return [COMMANDS[name] for name in names if getattr(self, name) == getattr(Links, name)]

    def mart(self, name: str) -> str:
        """Return the address of a mart in the documentation."""
        return _beside(self.docs, f"{DIAGRAM}#{name}")

    def lineage(self, relation: str) -> str:
        """Return the address of where the columns of a relation (`schema.name`) come from."""
        return _beside(self.docs, f"{LINEAGE}#{relation}")

    def asset(self, *key: str) -> str:
        """Return the address of an asset in Dagster."""
        return _beside(self.dagster, f"assets/{'/'.join(key)}")

    def page(self, name: str) -> str:
        """Return the address of a page of the dashboard."""
        return _beside(self.dashboard, name)


def _beside(address: str, name: str) -> str:
    """Return the address of a page beside one, or in a folder if that is one; of none, none.

    As a browser has it: `urljoin` would lose the dots of `../docs/`.
    """
    plain = address.partition("#")[0].partition("?")[0]
    if re.fullmatch(r"https?://[^/]*", plain):
        plain += "/"
    return plain[: plain.rfind("/") + 1] + name if address else ""


def dashboard_pages(manifest: Mapping[str, Any], unique_id: str) -> list[tuple[str, str]]:
    """Return title and file name of each page of the dashboard that reads a node, as the exposures declare it."""
    return sorted(
        (str(exposure["label"]).removeprefix("Dashboard: "), str(exposure["url"]).removeprefix(DASHBOARD))
        for exposure in manifest["exposures"].values()
        if str(exposure.get("url")).startswith(DASHBOARD) and unique_id in exposure["depends_on"]["nodes"]
    )
