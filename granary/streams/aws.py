"""What Kinesis and SQS have in common: a client of botocore, and how Amazon says that it wants to be asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granary.warehouse.errors import missing_package

if TYPE_CHECKING:
    from granary.streams.address import Address


def client(service: str, address: Address, connections: int = 10) -> tuple[Any, Any, Any]:
    """Return a client, the class of error of an answer that refuses, and that of an answer that does not come.

    Credentials are found in the ways of AWS: environment, profile, or the machine's role.

    Raises:
        GranaryError: botocore is not installed, or the address names no region.
    """
    try:
        from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and 0.2 s
        from botocore.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415
            BotoCoreError,
            ClientError,
        )
        from botocore.session import get_session  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise missing_package(service, "botocore", "streams") from None
    made = get_session().create_client(
        service.lower(),
        region_name=address.hosts,
        endpoint_url=address.endpoint or None,
        config=Config(
            connect_timeout=5,
            read_timeout=15,
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=connections,
        ),
    )
    return made, ClientError, BotoCoreError
