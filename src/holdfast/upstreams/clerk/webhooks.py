"""Webhooks of Clerk: signed as Svix signs, checked by Svix's own library (https://docs.svix.com/receiving)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.errors import ConfigurationError, MissingExtra
from holdfast.guard.inbox import Received, WebhookRefused

_HEADERS = ("svix-id", "svix-timestamp", "svix-signature")


class _Event(msgspec.Struct):
    """The part of an event that is the same for all (https://clerk.com/docs/webhooks/overview)."""

    type: str
    data: dict[str, Any]
    timestamp: int | None = None  # milliseconds since 1970


class ClerkWebhooks:
    """Checks webhooks of one endpoint.

    Args:
        secret: the endpoint's, `whsec_…`.

    Raises:
        ConfigurationError: the secret is none. MissingExtra: the library is not installed.
    """

    def __init__(self, secret: str) -> None:
        try:
            from svix.webhooks import Webhook
        except ImportError:
            raise MissingExtra(
                "webhooks of Clerk are checked by svix, which is not installed: pip install 'holdfast[webhooks]'"
            ) from None
        try:
            self._webhook = Webhook(secret)
        except Exception:  # noqa: BLE001  whose text may hold a piece of the secret
            problem = "HOLDFAST_CLERK_WEBHOOK_SECRET is no secret of an endpoint; copy it from Clerk: whsec_…"
        else:
            return
        raise ConfigurationError(problem)

    def check(self, body: bytes, headers: Mapping[str, str]) -> Received:
        """The webhook of a request.

        Args:
            body: as it came, to the byte.
            headers: by lower-case name.

        Raises:
            WebhookRefused: it is not from Clerk, too old or too new, or no event.
        """
        given = {name: headers.get(name, "") for name in _HEADERS}
        try:
            self._webhook.verify(body, given)
            event = msgspec.json.decode(body, type=_Event)
            sent = dt.datetime.fromtimestamp(int(given["svix-timestamp"]), dt.UTC)
            at = sent if event.timestamp is None else dt.datetime.fromtimestamp(event.timestamp / 1_000, dt.UTC)
        except Exception:  # noqa: BLE001  the library raises whatever a malformed header or body leads to
            raise WebhookRefused("this is no webhook of Clerk, or its signature is not good") from None
        return Received(source="clerk", event_id=given["svix-id"], kind=event.type, occurred_at=at, payload=event.data)
