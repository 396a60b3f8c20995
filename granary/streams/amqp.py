"""RabbitMQ by AMQP 0-9-1, for its queues and its streams: how it is reached, and what its refusals mean."""

from __future__ import annotations

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
        self._parameters = [
            pika.ConnectionParameters(
                host=host,
                port=port,
                virtual_host=options.get("vhost", "/"),
                credentials=pika.PlainCredentials(options.get("user", "guest"), options.get("password", "guest")),
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
        """Return a failure in words that hold nothing of the address but its hosts; UnavailableError if it may pass."""
        errors, code, todo = self._errors, getattr(error, "reply_code", 0), "check the address"
        closed = isinstance(error, errors.ConnectionClosedByBroker)
        if isinstance(error, errors.ProbableAccessDeniedError) or (closed and "vhost" in str(error)):
            return GranaryError("RabbitMQ has no such virtual host, or not for this user", self.where, f"{todo}: vhost")
        wrong = (errors.AuthenticationError, errors.ProbableAuthenticationError)
        if isinstance(error, wrong) or (closed and code == ACCESS_REFUSED):
            return GranaryError("RabbitMQ refuses the user or the password", self.where, todo)
        if isinstance(error, errors.ChannelClosedByBroker):
            known = {NOT_FOUND: "there is no such queue", ACCESS_REFUSED: "the user may not read it"}
            what = known.get(code, str(error.reply_text)[:200])
            todo = f"check the source's topics: each is a {self.wanted} that the user may read"
            return GranaryError(f"RabbitMQ refuses a queue, of {', '.join(self.topics)}: {what}", self.where, todo)
        words = (str(error) or repr(error))[:300]
        if "CERTIFICATE_VERIFY" in words or "SSLError" in words:
            return GranaryError(f"RabbitMQ: TLS fails: {words}", self.where, todo)
        return UnavailableError(f"RabbitMQ does not answer: {words}", self.where, f"{todo}, and that it is up")
