"""Pages for people: the data documentation, written by dbt, and the profiles beside it, served on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from granary import show
from granary.profiles import page as profiles
from warehouse.errors import GranaryError
from warehouse.settings import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.settings import Settings

DBT = [sys.executable, "-c", "from dbt.cli.main import cli; cli()"]


def write_docs(settings: Settings) -> Path:
    """Write the documentation as one file that needs no address, and the page of profiles that it links to.

    Returns:
        The documentation's path.

    Raises:
        GranaryError: dbt failed; its last words are in the error.
    """
    done = subprocess.run(
        [*DBT, "--quiet", "docs", "generate", "--static"],
        cwd=PROJECT,
        env=settings.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join((done.stdout + done.stderr).split())[-300:]
        raise GranaryError(f"the documentation cannot be written: {words}", str(PROJECT), "run `make demo` first")
    profiles.write_page(settings, PROJECT / "target")
    return PROJECT / "target" / "static_index.html"


def serve_docs(settings: Settings, port: int) -> None:
    """Write the documentation and serve it at 127.0.0.1:`port` until interrupted; port 0 only writes it."""
    page = write_docs(settings)
    show.line(f"Written: {page}")
    if not port:
        return
    handler = partial(_Quiet, directory=str(page.parent))
    try:
        with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
            show.line(f"Read it at http://127.0.0.1:{port}/{page.name} (Ctrl-C ends it)")
            server.serve_forever()
    except OSError as error:
        raise GranaryError(
            f"port {port} cannot be used: {error.strerror}", "127.0.0.1", "end what uses it, or give another --port"
        ) from None
    except KeyboardInterrupt:
        show.line("Stopped.")


def serve_ui(settings: Settings, port: int) -> None:
    """Run Dagster's web server and daemon (schedules, backfills) at 127.0.0.1:`port` until interrupted.

    Raises:
        GranaryError: the port is taken, or Dagster ended by itself.
    """
    from orchestration.instance import environment, prepare_instance

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise GranaryError(
                f"port {port} cannot be used: {error.strerror}", "127.0.0.1", "end what uses it, or give another --port"
            ) from None
    prepare_instance(settings)
    show.line(f"Dagster at http://127.0.0.1:{port} in a few seconds (Ctrl-C ends it)")
    command = [
        *(sys.executable, "-m", "dagster", "dev", "--module-name", "orchestration.definitions"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
    ]
    child = subprocess.Popen(command, cwd=PROJECT, env=environment(settings))
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait(30)
        show.line("Stopped.")
        return
    if code:
        raise GranaryError(f"Dagster ended with code {code}", "dagster dev", "see what it printed above")


class _Quiet(SimpleHTTPRequestHandler):
    """Serves only the pages themselves, without a line on the terminal per request."""

    def do_GET(self) -> None:
        """Answer with a page; everything else in dbt's folder stays private."""
        asked = self.path.partition("?")[0]
        if asked not in ("/", "/static_index.html", "/index.html", f"/{profiles.NAME}"):
            self.send_error(404)
            return
        self.path = asked if asked == f"/{profiles.NAME}" else "/static_index.html"
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
