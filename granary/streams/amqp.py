"""RabbitMQ by AMQP 0-9-1, for its queues and its streams: how it is reached, and what its refusals mean."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from granary.streams.address import hosts, tls
from granary.streams.log import UnavailableError
from granary.warehouse.errors import GranaryError, missing_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.streams.address import Address

PORT, TLS_PORT = 5672, 5671
CONNECT_SECONDS, HEARTBEAT_SECONDS, BLOCKED_SECONDS = 10, 60, 60
ACCESS_REFUSED, NOT_FOUND = 403, 404


class Amqp:
    """A server, or the nodes of a cluster, and what is read there; `failures` are what its client raises."""

    def __init__(self, address: Address, topics: Sequence[str], wanted: str, header: str) -> None:
        """Prepare; nothing is asked of the server yet.

        `wanted` is what a topic has to be, such as "queue"; `header` is the one of a message that is read.

        Raises:
            GranaryError: pika is not installed, or the address is wrong.
        """
        try:
            import pika  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and 0.1 s
            from pika import exceptions  # noqa: PLC0415

            from granary.streams.amqp_headers import OneHeader  # noqa: PLC0415
        except ImportError:
            raise missing_package("RabbitMQ", "pika", "streams") from None
        self._pika, self._errors = pika, exceptions
        self._kind = type("Connection", (OneHeader,), {"wanted": header})
        self.failures: tuple[type[Exception], ...] = (exceptions.AMQPError, OSError)
        self.topics, self.wanted, self.where = list(topics), wanted, address.hosts
        context, options = tls(address), address.options
        self._user, self._vhost = options.get("user", "guest"), options.get("vhost", "/")
        self._parameters = [
            pika.ConnectionParameters(
                host=host,
                port=port,
                virtual_host=self._vhost,
                credentials=pika.PlainCredentials(self._user, options.get("password", "guest")),
                ssl_options=pika.SSLOptions(context, host) if context else None,
                heartbeat=HEARTBEAT_SECONDS,
                socket_timeout=CONNECT_SECONDS,
                stack_timeout=CONNECT_SECONDS + 5,
                blocked_connection_timeout=BLOCKED_SECONDS,
                client_properties={"connection_name": "granary"},
            )
            for host, port in hosts(address, TLS_PORT if context else PORT)
        ]

    def connect(self) -> Any:
        """Return a connection to the first host that answers; raises `failures`."""
        return self._pika.BlockingConnection(self._parameters, _impl_class=self._kind)

    def hang_up(self, connection: Any) -> None:
        """Close a connection, whatever has become of it."""
        if connection is not None and connection.is_open:
            with suppress(*self.failures):
                connection.close()

    def told(self, error: Exception) -> GranaryError:
        """Return a failure in words that hold nothing of the address but hosts, user and virtual host.

        It is an UnavailableError if it may pass.
        """
        errors, code, words = self._errors, getattr(error, "reply_code", 0), (str(error) or repr(error))[:300]
        closed = isinstance(error, errors.ConnectionClosedByBroker)
        if isinstance(error, errors.ProbableAccessDeniedError) or (closed and "vhost" in words):
            return self._no_vhost(words)
        wrong = (errors.AuthenticationError, errors.ProbableAuthenticationError)
        if isinstance(error, wrong) or (closed and code == ACCESS_REFUSED):
            todo = "check user and password in the address"
            if self._user == "guest":
                todo += "; `guest` may log in on the server's own machine only"
            return GranaryError(f"RabbitMQ refuses the login {self._user!r}", self.where, todo)
        if isinstance(error, errors.ChannelClosedByBroker):
            return self._no_queue(code, str(error.reply_text)[:200])
        if "CERTIFICATE_VERIFY" in words or "SSLError" in words:
            return GranaryError(f"RabbitMQ: TLS fails: {words}", self.where, "check the address")
        todo = "check the address, and that it is up"
        return UnavailableError(f"RabbitMQ does not answer: {words}", self.where, todo)

    def _no_vhost(self, words: str) -> GranaryError:
        if "not found" in words:
            return GranaryError(
                f"RabbitMQ has no virtual host {self._vhost!r}", self.where, "check vhost in the address, or create it"
            )
        return GranaryError(
            f"RabbitMQ does not let the login {self._user!r} into the virtual host {self._vhost!r}",
            self.where,
            "check vhost in the address, or give the login rights there: `rabbitmqctl set_permissions`",
        )

    def _no_queue(self, code: int, words: str) -> GranaryError:
        named = re.search(r"queue '(.*?)' in vhost", words)
        queue = repr(named[1]) if named else f"of {', '.join(self.topics)}"
        if code == NOT_FOUND:
            return GranaryError(f"RabbitMQ has no queue {queue}", self.where, "create it, or fix the source's topics")
        if code == ACCESS_REFUSED:
            return GranaryError(
                f"the login {self._user!r} may not read RabbitMQ's queue {queue}",
                self.where,
                "give it the right: the last pattern of `rabbitmqctl set_permissions` says what a login may read",
            )
        todo = f"check the source's topics: each is a {self.wanted}"
        return GranaryError(f"RabbitMQ refuses a queue, of {', '.join(self.topics)}: {words}", self.where, todo)
