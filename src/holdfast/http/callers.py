"""Callers who say who they are: let in, counted, and what they asked for logged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.apps.accounts.models import ApiKey, UsageLog
from holdfast.apps.accounts.usage import log_usage
from holdfast.errors import HoldfastError
from holdfast.guard.keys import keys_models
from holdfast.guard.limits.headers import headers_of
from holdfast.hold import Holdfast
from holdfast.http import problems
from holdfast.http.identity import Identities, Identity, Refused, origin_of, request_id_of
from holdfast.http.problems import Refusal
from holdfast.store import ALL, Unit


@cache
def _written(name: str) -> bytes:
    """The name of a header as servers take it; there are few."""
    return name.lower().encode()


Endpoint = Callable[[Request], Awaitable[Response]]


class Callers:
    """Who may ask, where the accounts app is among the models.

    Attributes:
        are_known: whether there are API keys at all.
    """

    def __init__(self, hold: Holdfast) -> None:
        self._hold = hold
        self._identities = Identities(hold)
        found = keys_models(hold.models)
        self.are_known = found is not None and found[0] is ApiKey
        if self.are_known:
            hold.keys  # noqa: B018  what is wrong with its settings is said now, not to who asks first
        self._logs = UsageLog in hold.models

    async def who(self, request: Request, scope: str | None, *, browser: bool = False) -> Identity:
        """Who asks, and may do what `scope` names, None for nothing special; the answer will have the headers of his
        limits.

        Args:
            browser: whether a key may be given as a browser asks for a password, too; only for what is read.

        Raises:
            Refusal: 401, nobody is known by what was given; 403, he may not; 429, too often. Unavailable: it is not
                known just now.
        """
        who = await self._identities.identified(request, scope, browser=browser)
        request.state.who = who
        return who

    @asynccontextmanager
    async def writing(self, request: Request, who: Identity) -> AsyncIterator[Unit]:
        """A unit of who asks, for all tenants, with where the request comes from on record."""
        request_id = request_id_of(request)
        async with self._hold.unit(actor=str(who.user_id), tenant=ALL, request_id=request_id) as unit:
            if self._hold.audit.is_on and request_id is not None:
                await self._hold.audit.origin(unit, origin_of(request), tenant=who.org_id)
            yield unit

    async def answered(
        self, request: Request, endpoint: Endpoint, address: str, *, called: str | None = None
    ) -> Response:
        """What `endpoint` answers, with the headers of the caller's limits; what he asked for is logged.

        Args:
            address: the template of the address, as it is logged.
            called: what a denial is called on record; the method and the address unless given.
        """
        began = time.perf_counter()
        status = 500
        try:
            try:
                response = await endpoint(request)
            except Refusal as refused:
                if isinstance(refused, Refused):
                    self._denied(request, called or f"{request.method} {address}", refused)
                response = problems.of_refusal(request, refused)
            except HTTPException as error:
                response = problems.of_http_exception(request, error)
            except HoldfastError as error:
                response = problems.of_holdfast_error(request, error)
            status = response.status_code
        finally:
            who: Identity | None = getattr(request.state, "who", None)
            if who is not None and self._logs:
                log_usage(
                    self._hold,
                    user_id=who.user_id,
                    org_id=who.org_id,
                    api_key_id=who.key_id,
                    endpoint=address,
                    method=request.method,
                    status=status,
                    seconds=time.perf_counter() - began,
                    error=HTTPStatus(status).phrase if status >= 400 else None,
                )
        if who is not None:
            # Straight into the list: each look into `response.headers` goes through all of them.
            response.raw_headers += [
                (_written(name), value.encode()) for name, value in headers_of(who.counted).items()
            ]
        return response

    def _denied(self, request: Request, called: str, refused: Refused) -> None:
        """Have a denial put on record where it is known who asked; of a key that opens nothing `keys.verify` does."""
        known = getattr(request.state, "known", None)
        if known is not None:
            user_id, org_id = known
            self._hold.audit.denied(called, str(refused), tenant=org_id, actor=user_id, origin=origin_of(request))

    def guarded(self, endpoint: Endpoint, address: str, *, called: str | None = None) -> Endpoint:
        """`endpoint` as `answered` has it, for a route."""

        async def guarded(request: Request) -> Response:
            return await self.answered(request, endpoint, address, called=called)

        guarded.__name__, guarded.__doc__ = endpoint.__name__, endpoint.__doc__
        return guarded
