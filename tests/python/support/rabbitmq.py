"""A real RabbitMQ with streams: Debian's server, in a folder and on loopback ports of the tests' own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pika

from tests.python.support import debian
from tests.python.support.certificates import authority, certificate

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PACKAGE = "rabbitmq-server"
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself: the command in PATH wants to be root or rabbitmq, and uses the folders of the system."""
PATIENCE_SECONDS = 600


@dataclass
class RabbitMQ:
    """A running server with a user `owner`, who may do everything in the virtual host `/`.

    `ports` are those of AMQP, AMQP by TLS (signed by `authority`), streams, the node, and Erlang's name server.
    """

    folder: Path
    ports: tuple[int, int, int, int, int]
    password: str = field(repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def hosts(self) -> str:
        """Where it speaks AMQP."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def authority(self) -> Path:
        """The certificate of whom its own is signed by, for the name `localhost` and 127.0.0.1."""
        return self.folder / "ca.crt"

    def connect(self, *, tls: bool = False) -> pika.BlockingConnection:
        """Open a connection as the owner."""
        context = ssl.create_default_context(cafile=str(self.authority)) if tls else None
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1",
                self.ports[1 if tls else 0],
                credentials=pika.PlainCredentials("owner", self.password),
                ssl_options=pika.SSLOptions(context, "localhost") if context else None,
            )
        )

    def run(self, *words: str) -> None:
        """Let `rabbitmqctl` do something."""
        program = PROGRAM.with_name("rabbitmqctl")
        done = subprocess.run([program, *words], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Stop the server and Erlang's name server, and remove their files."""
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE_SECONDS)
        subprocess.run(["epmd", "-kill"], env=self.environment, capture_output=True, check=False, timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the server's programs are told; Erlang's name server is ours alone, too."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.ports[4]),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "server.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_NODENAME": f"tests{self.ports[0]}@localhost",
            "RABBITMQ_DIST_PORT": str(self.ports[3]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }


def in_milliseconds() -> AbstractContextManager[Any]:
    """Return a context in which pika writes each time as one far beyond the year 9999, which it cannot read itself."""
    return patch("pika.data.calendar.timegm", lambda _: 1_764_500_000_000)


def program() -> Path | None:
    """Return the server's program, installed if this is root on a Debian; None where it cannot be had."""
    return PROGRAM if debian.program(PROGRAM.name, PACKAGE, str(PROGRAM.parent)) else None


def start(found: Path) -> RabbitMQ:
    """Create a server's files and start it, as an unprivileged user if this is root: some ten seconds."""
    folder = Path(tempfile.mkdtemp(prefix="granary-rabbit-", dir="/tmp"))
    authority(folder)
    certificate(folder, "server", "localhost", "DNS:localhost,IP:127.0.0.1")
    server = RabbitMQ(folder, _free_ports(), secrets.token_hex())
    amqp, tls, streams, _, _ = server.ports
    (folder / "plugins").write_text("[rabbitmq_stream].\n")
    (folder / "server.conf").write_text(
        f"listeners.tcp.default = 127.0.0.1:{amqp}\n"
        f"listeners.ssl.default = 127.0.0.1:{tls}\n"
        f"ssl_options.cacertfile = {folder}/ca.crt\n"
        f"ssl_options.certfile = {folder}/server.crt\n"
        f"ssl_options.keyfile = {folder}/server.key\n"
        f"stream.listeners.tcp.default = 127.0.0.1:{streams}\n"
        f"default_user = owner\ndefault_pass = {server.password}\n"
        "log.console = false\nlog.file.level = warning\n"
    )
    as_user: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with (folder / "out").open("wb") as log:
        server.process = subprocess.Popen(
            [str(found)], env=server.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (_answers(streams) and _answers(amqp)):
        alive = server.process.poll() is None and time.monotonic() < deadline
        if not alive:
            said = (folder / "out").read_text()[-2000:]
            server.stop()
            raise AssertionError(said)
        time.sleep(0.1)
    return server


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def _free_ports() -> tuple[int, int, int, int, int]:
    probes = [socket.socket() for _ in range(5)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    amqp, tls, streams, node, names = (int(probe.getsockname()[1]) for probe in probes)
    for probe in probes:
        probe.close()
    return amqp, tls, streams, node, names
