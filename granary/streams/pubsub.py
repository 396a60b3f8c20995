"""Google Pub/Sub: the subscriptions of one project, by unary pulls (https://cloud.google.com/pubsub/docs/pull).

A message that was pulled is ours until its acknowledgement deadline, which is prolonged while a batch is under way.
Of a subscription with message ordering, pulls bring the messages of a key in order, as long as one process reads it.
Of one with exactly-once delivery, an acknowledgement that came too late is refused; the message comes again, and is
known.
Pub/Sub's own interface does not say how many messages wait: that is in Cloud Monitoring.
"""

from __future__ import annotations

import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

from granary.streams.log import UnavailableError
from granary.streams.pubsub_schemas import PubSubSchemas
from granary.streams.queues import Queues, Received
from granary.warehouse.errors import GranaryError, missing_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.streams.address import Address

PULL_MESSAGES = 1_000
PULL_SECONDS = 15.0
"""A pull waits so long for a message, and then a while for its answer."""
MOMENT_SECONDS = 0.01
ACK_IDS = 1_000
"""A request may have 512 kB, and an id has some 200 bytes."""
ASK_SECONDS = 15.0
DEADLINE_SECONDS = 10.0
"""Of a subscription that we may not ask: the service's own default."""
LATE_SECONDS = 5.0
"""How much later than its deadline a message may come again."""
QUIET_SECONDS = 35.0
"""After so long without a message a subscription has nothing for us, whatever its deadline."""


class Subscriptions(Queues):
    """The subscriptions of one source."""

    kind = "pubsub"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare a client; credentials are found in the ways of Google, but of an endpoint without TLS none are asked.

        Raises:
            GranaryError: google-cloud-pubsub is not installed, or there are no credentials.
        """
        try:
            import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and a second
            from google import pubsub_v1  # noqa: PLC0415
            from google.api_core import exceptions  # noqa: PLC0415
            from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
            from google.pubsub_v1.services.schema_service import transports as of_schemas  # noqa: PLC0415
            from google.pubsub_v1.services.subscriber import transports  # noqa: PLC0415
        except ImportError:
            raise missing_package("Pub/Sub", "google-cloud-pubsub", "pubsub") from None
        super().__init__(topics)
        self._errors, self._unauthorized = exceptions, GoogleAuthError
        self._project, self._where = address.hosts, f"Pub/Sub project {address.hosts}"
        self._attribute = address.options.get("id", "")
        self.schemas: PubSubSchemas | None = None
        scheme, _, host = address.endpoint.rpartition("://")
        options = {"api_endpoint": host} if host else None
        channel = grpc.insecure_channel(host) if scheme == "http" else None
        try:
            self._client = pubsub_v1.SubscriberClient(
                transport=transports.SubscriberGrpcTransport(channel=channel) if channel else None,
                client_options=None if channel else options,
            )
            if address.format != "json" and not address.registry:
                self._schema_client = pubsub_v1.SchemaServiceClient(
                    transport=of_schemas.SchemaServiceGrpcTransport(channel=channel) if channel else None,
                    client_options=None if channel else options,
                )
                self.schemas = PubSubSchemas(self._schema, exceptions.NotFound, exceptions.GoogleAPICallError)
        except GoogleAuthError:
            raise GranaryError(
                "there are no credentials for Pub/Sub", self._where, "set GOOGLE_APPLICATION_CREDENTIALS"
            ) from None
        self._deadlines: dict[str, float] = {}
        self._empty: set[str] = set()
        self._pulls: dict[str, futures.Future[Any]] = {}
        self._team = futures.ThreadPoolExecutor(len(self.topics), "pubsub")

    def _schema(self, name: str) -> Any:
        return self._schema_client.get_schema(request={"name": name, "view": "FULL"}, timeout=ASK_SECONDS, retry=None)

    def _path(self, topic: str) -> str:
        return topic if topic.startswith("projects/") else f"projects/{self._project}/subscriptions/{topic}"

    def _connect(self) -> None:
        """Find the subscriptions and their deadlines; a role that may only read them may not ask for these."""
        for topic in self.topics:
            try:
                found = self._ask("get_subscription", topic)
                self._deadlines[topic] = float(found.ack_deadline_seconds or DEADLINE_SECONDS)
            except _DeniedError:
                self._deadlines[topic] = DEADLINE_SECONDS
        self.deadline = min(self._deadlines.values())

    def _ask(self, what: str, topic: str, seconds: float = ASK_SECONDS, **request: Any) -> Any:
        """Call the service for a subscription; a pull that nothing came for returns None.

        Raises:
            GranaryError: it denies access, or there is no such subscription.
            UnavailableError: it does not answer, or takes no acknowledgements now.
        """
        errors = self._errors
        try:
            return getattr(self._client, what)(
                request={"subscription": self._path(topic), **request}, timeout=seconds, retry=None
            )
        except errors.NotFound:
            raise GranaryError(
                f"Pub/Sub has no subscription {topic!r}", self._where, "create it, or fix the source's topics"
            ) from None
        except (errors.Unauthenticated, errors.PermissionDenied):
            raise _DeniedError(
                "Pub/Sub denies access", f"{topic}, {self._where}", "check the credentials, and their role on it"
            ) from None
        except self._unauthorized as error:
            raise GranaryError(
                f"Google does not take the credentials: {type(error).__name__}", self._where, "check the credentials"
            ) from None
        except errors.GoogleAPICallError as error:
            if what == "pull" and isinstance(error, errors.DeadlineExceeded):
                return None  # nothing came
            raise UnavailableError(
                f"Pub/Sub does not answer: {type(error).__name__}", self._where, "check the address"
            ) from None

    def _receive(self, topic: str, most: int, seconds: float) -> list[Received]:
        """Return what the pull that is under way has brought; one that has not ended goes on into the next batch.

        No pull is given up early: what it was about to bring would be nobody's until its deadline.
        """
        pull = self._pulls.get(topic)
        if pull is None:
            most = min(most, PULL_MESSAGES)
            pull = self._pulls[topic] = self._team.submit(
                self._ask, "pull", topic, PULL_SECONDS + ASK_SECONDS, max_messages=most
            )
        try:
            found = pull.result(max(seconds, MOMENT_SECONDS))
        except futures.TimeoutError:
            self._empty.add(topic)
            return []
        except BaseException:
            del self._pulls[topic]
            raise
        del self._pulls[topic]
        received = [self._received(one) for one in found.received_messages] if found else []
        (self._empty.discard if received else self._empty.add)(topic)
        return received

    def _received(self, one: Any) -> Received:
        message = one.message
        name = message.attributes.get(self._attribute) if self._attribute else None
        data = bytes(message.data)
        if self.schemas is not None:
            data = self.schemas.in_wire_format(data, message.attributes)
        return Received(name or message.message_id, data, message.publish_time.timestamp(), one.ack_id)

    def _acknowledge(self, topic: str, receipts: Sequence[Any]) -> None:
        for start in range(0, len(receipts), ACK_IDS):
            self._ask("acknowledge", topic, ack_ids=list(receipts[start : start + ACK_IDS]))

    def _deadline_of(self, topic: str, receipts: Sequence[Any], seconds: float) -> None:
        for start in range(0, len(receipts), ACK_IDS):
            ids = list(receipts[start : start + ACK_IDS])
            self._ask("modify_ack_deadline", topic, ack_ids=ids, ack_deadline_seconds=int(seconds))

    def _extend(self, topic: str, receipts: Sequence[Any]) -> None:
        self._deadline_of(topic, receipts, self._deadlines[topic])

    def _give_back(self, topic: str, receipts: Sequence[Any]) -> None:
        self._deadline_of(topic, receipts, 0)

    def _waiting(self, topic: str) -> int | None:
        """Return none when the last pull brought nothing; how many wait otherwise, Pub/Sub does not say."""
        return 0 if topic in self._empty else None

    def at_end(self) -> bool:
        """Return whether nothing came for as long as the longest deadline, after which it would have come again."""
        quiet = min(max(self._deadlines.values()) + LATE_SECONDS, QUIET_SECONDS)
        return self._empty.issuperset(self.topics) and time.monotonic() - self._heard > quiet

    def _hang_up(self) -> None:
        self._team.shutdown(wait=False, cancel_futures=True)
        self._client.transport.close()  # type: ignore[no-untyped-call]


class _DeniedError(GranaryError):
    """The service denies access."""
