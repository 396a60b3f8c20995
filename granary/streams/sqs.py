"""Amazon SQS, standard and FIFO queues, by its documented API.

A message that was received is hidden from others for its visibility timeout, which we set ourselves and prolong while a
batch is under way. Of a FIFO queue, no message of a group is given while an earlier one is under way, so the order
within a group is kept; SQS gives ten messages at a time. Limits: ten messages a request, of at most 1 MiB together
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from granary.streams.aws import client
from granary.streams.log import UnavailableError
from granary.streams.queues import Queues, Received
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from granary.streams.address import Address

VISIBILITY_SECONDS = 60
MOST_SECONDS = 43_200
AT_ONCE = 10
"""Messages of a request, and receipts."""
TEAM = 8
"""Requests that are under way at once."""
LONG_POLL_SECONDS = 1
SERVER_FAILED = 500
GONE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
THROTTLED = ("ThrottlingException", "RequestThrottled", "OverLimit", "KmsThrottled", "ServiceUnavailable")


class SqsQueues(Queues):
    """The queues of one source, in one region."""

    kind = "sqs"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare a client.

        Raises:
            GranaryError: botocore is not installed, or an option of the address means nothing.
        """
        super().__init__(topics)
        self._where = f"SQS in {address.hosts}"
        visibility = address.options.get("visibility", str(VISIBILITY_SECONDS))
        if not visibility.isdecimal() or not 1 <= int(visibility) <= MOST_SECONDS:
            raise GranaryError("visibility is not a number of seconds from 1 to 43,200", self._where, "fix the address")
        self.deadline = float(visibility)
        self._visibility = int(visibility)
        self._attribute = address.options.get("id", "")
        self._client, self._refused, self._broken = client("SQS", address, TEAM + 2)
        self._urls: dict[str, str] = {}
        self._team = ThreadPoolExecutor(TEAM, "sqs")

    def _connect(self) -> None:
        for topic in self.topics:
            self._urls[topic] = str(self._ask("get_queue_url", topic, QueueName=topic)["QueueUrl"])

    def _ask(self, what: str, topic: str, **arguments: Any) -> dict[str, Any]:
        """Call the service for a queue; its URL is added.

        Raises:
            GranaryError: it denies access, or there is no such queue.
            UnavailableError: it does not answer, or wants to be asked more slowly.
        """
        url = {"QueueUrl": self._urls[topic]} if topic in self._urls else {}
        try:
            answer: dict[str, Any] = getattr(self._client, what)(**url, **arguments)
        except self._refused as error:
            response: dict[str, Any] = getattr(error, "response", {})
            code = str(response.get("Error", {}).get("Code", ""))
            if code in THROTTLED or int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= SERVER_FAILED:
                raise UnavailableError(f"SQS cannot answer now: {code}", self._where) from None
            if code in GONE:
                raise GranaryError(
                    f"SQS has no queue {topic!r}", self._where, "create it, or fix the source's topics"
                ) from None
            raise GranaryError(f"SQS refuses: {code}", f"{topic}, {self._where}", "check the credentials") from None
        except self._broken as error:
            if "Credential" in type(error).__name__:
                raise GranaryError(
                    f"there are no credentials for SQS: {type(error).__name__}",
                    self._where,
                    "set them as AWS wants them",
                ) from None
            raise UnavailableError(
                f"SQS does not answer: {type(error).__name__}", self._where, "check the address"
            ) from None
        return answer

    def _receive(self, topic: str, most: int, seconds: float) -> list[Received]:
        """Ask once; if there is plenty, several times at once: a group of a FIFO queue comes in one answer only."""
        wait = LONG_POLL_SECONDS if seconds > 0 and not any(self._held.values()) else 0
        found = self._messages(topic, min(most, AT_ONCE), wait)
        if len(found) == AT_ONCE and (left := (most - AT_ONCE) // AT_ONCE) > 0:
            asked = [self._team.submit(self._messages, topic, AT_ONCE, 0) for _ in range(min(left, TEAM))]
            for one in asked:
                found += one.result()
        return [self._received(message) for message in found]

    def _messages(self, topic: str, most: int, wait: int) -> list[dict[str, Any]]:
        answer = self._ask(
            "receive_message",
            topic,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=self._visibility,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=[self._attribute] if self._attribute else [],
        )
        return list(answer.get("Messages", []))

    def _received(self, message: dict[str, Any]) -> Received:
        attributes = message.get("Attributes", {})
        sender = message.get("MessageAttributes", {}).get(self._attribute, {}).get("StringValue")
        name = sender or attributes.get(self._attribute) or message["MessageId"]
        sent = int(attributes.get("SentTimestamp", 0)) / 1000
        return Received(str(name), message["Body"].encode("utf-8", "surrogatepass"), sent, message["ReceiptHandle"])

    def _in_tens(self, what: str, topic: str, receipts: Sequence[Any], **more: Any) -> None:
        """Tell the service something of many receipts."""

        def tell(some: Sequence[Any]) -> int:
            entries = [{"Id": str(number), "ReceiptHandle": receipt, **more} for number, receipt in enumerate(some)]
            return len(self._ask(what, topic, Entries=entries).get("Failed", []))

        tens = [receipts[start : start + AT_ONCE] for start in range(0, len(receipts), AT_ONCE)]
        if failed := _together(self._team, tell, tens):
            raise UnavailableError(f"SQS did not hear of {failed} messages", self._where)

    def _acknowledge(self, topic: str, receipts: Sequence[Any]) -> None:
        self._in_tens("delete_message_batch", topic, receipts)

    def _extend(self, topic: str, receipts: Sequence[Any]) -> None:
        self._in_tens("change_message_visibility_batch", topic, receipts, VisibilityTimeout=self._visibility)

    def _give_back(self, topic: str, receipts: Sequence[Any]) -> None:
        self._in_tens("change_message_visibility_batch", topic, receipts, VisibilityTimeout=0)

    def _counts(self, topic: str) -> tuple[int, int]:
        """Return about how many messages can be received, and how many were and are not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._ask("get_queue_attributes", topic, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def _waiting(self, topic: str) -> int | None:
        return self._counts(topic)[0]

    def at_end(self) -> bool:
        """Return whether the queues are empty, and nobody holds a message, or has for longer than our timeout."""
        counts = [self._counts(topic) for topic in self.topics]
        quiet = time.monotonic() - self._heard > self._visibility + 1
        return not any(ready for ready, _ in counts) and (quiet or not any(held for _, held in counts))

    def _hang_up(self) -> None:
        self._team.shutdown()
        self._client.close()


def _together(team: ThreadPoolExecutor, tell: Callable[[Sequence[Any]], int], parts: Sequence[Sequence[Any]]) -> int:
    return sum(team.map(tell, parts))
