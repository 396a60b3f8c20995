"""Pages for people, served on loopback: the data documentation with the profiles beside it, the dashboard, Dagster."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from granary.cli import output
from granary.dagster.links import Links
from granary.pages import docs
from granary.pages.profiles import page as profiles
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from granary.warehouse.settings import Settings

DBT = [sys.executable, "-m", "dbt_granary"]


def write_docs(settings: Settings) -> Path:
    """Write the documentation as one file that needs no address, and the pages that it links to.

    Returns:
        The documentation's path.

    Raises:
        GranaryError: dbt failed, its last words are in the error; or an address of a neighbour is none.
    """
    links = Links.load()
    environment = settings.environment()
    folder = PROJECT / environment.get("DBT_TARGET_PATH", "target")
    done = subprocess.run(
        [*DBT, "--quiet", "docs", "generate", "--static"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join((done.stdout + done.stderr).split())[-300:]
        raise GranaryError(f"the documentation cannot be written: {words}", str(PROJECT), "run `make demo` first")
    docs.write_pages(folder, links)
    profiles.write_page(settings, folder)
    return folder / "static_index.html"


def serve_docs(settings: Settings, port: int) -> None:
    """Write the documentation and serve it at 127.0.0.1:`port` until interrupted; port 0 only writes it."""
    page = write_docs(settings)
    output.line(f"Written: {page}")
    if not port:
        return
    serve(page.parent, (page.name, *docs.NAMES, profiles.NAME), port)


def serve(folder: Path, names: Sequence[str], port: int) -> None:
    """Serve these files of a folder, the first also as `/`, at 127.0.0.1:`port` until interrupted.

    Raises:
        GranaryError: the port is taken.
    """
    handler = partial(_Quiet, tuple(names), directory=str(folder))
    try:
        with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
            output.line(f"Read it at http://127.0.0.1:{server.server_port}/{names[0]} (Ctrl-C ends it)")
            server.serve_forever()
    except OSError as error:
        raise _taken(port, error) from None
    except KeyboardInterrupt:
        output.line("Stopped.")


def serve_ui(settings: Settings, port: int) -> None:
    """Run Dagster's web server and daemon (schedules, backfills) at 127.0.0.1:`port` until interrupted.

    Raises:
        GranaryError: the port is taken, or Dagster ended by itself.
    """
    from granary.dagster.instance import environment, prepare_instance
    from granary.dbt.child_process import start

    free_port(port)
    prepare_instance(settings)
    output.line(f"Dagster at http://127.0.0.1:{port} in a few seconds (Ctrl-C ends it)")
    command = [
        *(sys.executable, "-m", "dagster", "dev", "--module-name", "orchestration.definitions"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
    ]
    child = start(command, cwd=PROJECT, env=environment(settings))
    try:
        code = child.wait()
    except KeyboardInterrupt:
        if child.stdin:  # it is a pipe
            child.stdin.close()
        child.wait(30)
        output.line("Stopped.")
        return
    if code:
        raise GranaryError(f"Dagster ended with code {code}", "dagster dev", "see what it printed above")


def free_port(port: int) -> None:
    """Refuse a port that somebody listens at.

    Raises:
        GranaryError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _taken(port, error) from None


def _taken(port: int, error: OSError) -> GranaryError:
    return GranaryError(
        f"port {port} cannot be used: {error.strerror}", "127.0.0.1", "end what uses it, or give another --port"
    )


class _Quiet(SimpleHTTPRequestHandler):
    """Serves only the pages themselves, without a line on the terminal per request."""

    def __init__(self, names: tuple[str, ...], *arguments: Any, **options: Any) -> None:
        """Handle a request for one of these names."""
        self.names = names
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        """Answer with a page; everything else in the folder stays private."""
        asked = self.path.partition("?")[0].removeprefix("/")
        if asked not in self.names and asked not in ("", "index.html"):
            self.send_error(404)
            return
        self.path = f"/{asked if asked in self.names else self.names[0]}"
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
