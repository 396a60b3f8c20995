"""Dagster behind a login: the configuration of nginx that docs/engine/security.md shows, before a real Dagster."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import requests
import urllib3

from granary.warehouse.project import PROJECT
from tests.python.support.prometheus import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

PAGE = PROJECT / "docs" / "engine" / "security.md"
PATIENCE_SECONDS = 120
WHO = ("alice", "her password")
GRAPHQL = {"query": "{ version }"}


def nginx() -> str | None:
    """Return nginx, installed if this is root on a Debian; None where it cannot be had."""
    if not shutil.which("nginx") and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", "nginx-light"]
        subprocess.run(command, env=quiet, capture_output=True, check=False, timeout=300)
    return shutil.which("nginx")


@contextmanager
def process(*command: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        command, env=environment, cwd=os.environ["GRANARY_PROJECT"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(PATIENCE_SECONDS)


def until_open(port: int, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert started.poll() is None, started.stderr and started.stderr.read()
        assert time.monotonic() < deadline
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


def configuration(folder: Path, listens: int, dagster: int) -> Path:
    """Return the page's configuration as a whole one, with the ports and files of this test."""
    (recipe,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for words, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{listens} ssl"),
        ("127.0.0.1:3000", f"127.0.0.1:{dagster}"),
        ("/etc/nginx/", f"{folder}/"),
    ):
        assert words in recipe
        recipe = recipe.replace(words, ours)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    head = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
    path.write_text(f"{head}\nhttp {{ access_log off; {temporary}\n{recipe}\n}}\n")
    return path


@pytest.fixture
def proxied(warehouse: Settings, tmp_path: Path) -> Iterator[int]:
    """Return the port at which nginx guards a Dagster."""
    program = nginx()
    if program is None or shutil.which("openssl") is None:
        pytest.skip("nginx and openssl cannot be had here")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(
        ["openssl", *made, "-keyout", str(tmp_path / "granary.key"), "-out", str(tmp_path / "granary.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=WHO[1], check=True, capture_output=True, text=True
    )
    (tmp_path / "granary.users").write_text(f"{WHO[0]}:{hashed.stdout}")
    port, dagster = free_port(), free_port()
    command = [sys.executable, "-c", "from granary.cli.main import main; main()", "ui", "--port", str(dagster)]
    with ExitStack() as stack:
        ui = stack.enter_context(process(*command, environment=warehouse.environment()))
        proxy = stack.enter_context(process(program, "-c", str(configuration(tmp_path, port, dagster))))
        until_open(port, proxy)
        until_open(dagster, ui)
        yield port


def handshake(port: int, login: tuple[str, str] | None) -> bytes:
    """Ask for the websocket of Dagster's pages; return the first line of the answer."""
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    known = f"Authorization: Basic {base64.b64encode(':'.join(login).encode()).decode()}\r\n" if login else ""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(
            f"GET /graphql HTTP/1.1\r\nHost: localhost\r\n{known}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-ws\r\n\r\n".encode()
        )
        return connection.recv(65_536).partition(b"\r\n")[0]


def test_nothing_answers_without_a_login(proxied: int) -> None:
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    url = f"https://127.0.0.1:{proxied}"
    for login in (None, ("alice", "another"), ("bob", WHO[1])):
        for path in ("/", "/graphql", "/server_info", "/static/js/main.js"):
            assert requests.get(url + path, auth=login, verify=False, timeout=60).status_code == 401, (login, path)
        assert requests.post(f"{url}/graphql", json=GRAPHQL, auth=login, verify=False, timeout=60).status_code == 401
        assert handshake(proxied, login) == b"HTTP/1.1 401 Unauthorized"
    answer = requests.post(f"{url}/graphql", json=GRAPHQL, auth=WHO, verify=False, timeout=60)
    assert (answer.status_code, list(answer.json()["data"])) == (200, ["version"])
    assert handshake(proxied, WHO) == b"HTTP/1.1 101 Switching Protocols"
