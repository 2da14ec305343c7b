"""`/webhooks/…`: what providers tell us: checked, put into the inbox, answered; applied by a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from holdfast.apps.accounts.models import WebhookEvent
from holdfast.errors import InvalidValue
from holdfast.guard.inbox import Received, WebhookRefused, take_in
from holdfast.hold import Holdfast
from holdfast.http import problems
from holdfast.logs import get_logger
from holdfast.store import ALL

log = get_logger("holdfast.http")


class Checks(Protocol):
    """Tells whether a webhook is from who it says."""

    def check(self, body: bytes, headers: Mapping[str, str]) -> Received:
        """The webhook of a request. WebhookRefused: it is none."""
        ...


class Webhooks:
    """The endpoints of those providers whose secrets are set, where the accounts app is among the models.

    Raises:
        ConfigurationError: a secret is none. MissingExtra: a provider's library is not installed.
    """

    def __init__(self, hold: Holdfast) -> None:
        self._hold = hold
        self.providers: dict[str, Checks] = {}
        if WebhookEvent not in hold.models:
            return
        settings = hold.settings
        if settings.stripe_webhook_secret is not None:
            from holdfast.upstreams.stripe.webhooks import StripeWebhooks

            self.providers["stripe"] = StripeWebhooks(settings.stripe_webhook_secret)
        if settings.clerk_webhook_secret is not None:
            from holdfast.upstreams.clerk.webhooks import ClerkWebhooks

            self.providers["clerk"] = ClerkWebhooks(settings.clerk_webhook_secret)

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        return [
            Route(f"/webhooks/{name}", self._taking(name, checks), methods=["POST"])
            for name, checks in self.providers.items()
        ]

    def _taking(self, name: str, checks: Checks) -> Callable[[Request], Awaitable[Response]]:
        async def take(request: Request) -> Response:
            body = await request.body()
            try:
                received = checks.check(body, request.headers)
                async with self._hold.unit(actor=f"webhook {name}", tenant=ALL) as unit:
                    is_new = await take_in(unit, WebhookEvent, received)
            except (WebhookRefused, InvalidValue) as refused:
                return problems.problem(request, 400, str(refused))
            log.info("webhook", source=name, id=received.event_id, kind=received.kind, new=is_new)
            return Response(status_code=202 if is_new else 200)

        return take
