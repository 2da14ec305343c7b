"""Webhooks of Stripe, checked by Stripe's own library (https://docs.stripe.com/webhooks/signature)."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.errors import ConfigurationError, MissingExtra
from holdfast.guard.inbox import Received, WebhookRefused

TOLERANCE = 300  # seconds between Stripe's clock and ours


class _Data(msgspec.Struct):
    object: dict[str, Any]


class _Event(msgspec.Struct):
    """The part of an event that is the same for all (https://docs.stripe.com/api/events/object)."""

    id: str
    type: str
    created: int  # seconds since 1970
    data: _Data


class StripeWebhooks:
    """Checks webhooks of one endpoint.

    Args:
        secret: the endpoint's, `whsec_…`.

    Raises:
        ConfigurationError: the secret is none. MissingExtra: the library is not installed.
    """

    def __init__(self, secret: str) -> None:
        try:
            from stripe import WebhookSignature
        except ImportError:
            raise MissingExtra(
                "webhooks of Stripe are checked by its library, which is missing: pip install 'holdfast[webhooks]'"
            ) from None
        if not secret.startswith("whsec_") or len(secret) < 20:
            raise ConfigurationError(
                "HOLDFAST_STRIPE_WEBHOOK_SECRET is no secret of an endpoint; copy it from Stripe: whsec_…"
            )
        self._verify = WebhookSignature.verify_header
        self._secret = secret

    def check(self, body: bytes, headers: Mapping[str, str]) -> Received:
        """The webhook of a request.

        Args:
            body: as it came, to the byte.
            headers: by lower-case name.

        Raises:
            WebhookRefused: it is not from Stripe, too old or too new, or no event.
        """
        signature = headers.get("stripe-signature", "")
        try:
            self._verify(body.decode(), signature, self._secret, TOLERANCE)
            # The library takes what is from the future for good.
            signed = next(part[2:] for part in signature.split(",") if part.startswith("t="))
            if int(signed) > time.time() + TOLERANCE:
                raise ValueError(signed)
            event = msgspec.json.decode(body, type=_Event)
            at = dt.datetime.fromtimestamp(event.created, dt.UTC)
        except Exception:  # noqa: BLE001  the library raises whatever a malformed header or body leads to
            raise WebhookRefused("this is no webhook of Stripe, or its signature is not good") from None
        return Received(source="stripe", event_id=event.id, kind=event.type, occurred_at=at, payload=event.data.object)
