"""`/v1/privacy`: what is kept of who asks, taken along, and forgotten; and what he agrees to."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from holdfast.errors import InvalidValue
from holdfast.guard.consent import Basis, consent_model
from holdfast.hold import Holdfast
from holdfast.http import parameters
from holdfast.http.answers import fresh
from holdfast.http.bodies import typed
from holdfast.http.callers import Callers, Endpoint
from holdfast.http.identity import Identity, Refused, request_id_of
from holdfast.operate.privacy import Erasure
from holdfast.store import ALL

PATH = "/v1/privacy"
READ, WRITE = "privacy:read", "privacy:write"

_AT_A_TIME = 2  # exports that a process writes
_CHUNK = 2**16  # bytes
_SOURCE = "api"


class EraseMe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """That you want to be forgotten: `confirm` is your own id, so that nobody is by mistake."""

    confirm: UUID
    reason: str | None = None


class ShownErasure(msgspec.Struct, frozen=True, kw_only=True):
    """How far it got: `asked`, `erased` (the journal remembers for a while), or `done`; and how much went, by place."""

    id: str
    state: str
    asked_at: dt.datetime
    erased: dict[str, int]
    erased_at: dt.datetime | None
    done_at: dt.datetime | None


class OneErasure(msgspec.Struct, frozen=True):
    """That you are being forgotten."""

    data: ShownErasure


class GiveConsent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What you agree to: the text as it was shown, of which the hash is kept."""

    purpose: str
    text: str
    source: str = _SOURCE
    basis: Basis = "consent"


class ShownConsent(msgspec.Struct, frozen=True, kw_only=True):
    """What you said of one purpose: `given` that you agreed, or took it back."""

    purpose: str
    number: int
    given: bool
    basis: str
    text_hash: str | None
    source: str
    said_at: dt.datetime


class OneConsent(msgspec.Struct, frozen=True):
    """What you said last."""

    data: ShownConsent


class ConsentList(msgspec.Struct, frozen=True):
    """Everything that you said, by purpose, the first first; what was said last of a purpose holds."""

    data: list[ShownConsent]


class PrivacyOverHttp:
    """The endpoints; none where the accounts app is not among the models."""

    def __init__(self, hold: Holdfast, callers: Callers) -> None:
        self._hold = hold
        self._callers = callers
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self.is_there = callers.are_known and hold.privacy.is_on and consent_model(hold.models) is not None

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        if not self.is_there:
            return []
        export, erasure = f"{PATH}/export", f"{PATH}/erasure"
        consents, consent = f"{PATH}/consents", f"{PATH}/consents/{{purpose}}"
        return [
            Route(export, self._guarded(self.export, export), methods=["GET"]),
            Route(erasure, self._guarded(self.erase, erasure), methods=["POST"]),
            Route(consents, self._guarded(self.consents, consents), methods=["GET"]),
            Route(consents, self._guarded(self.give, consents), methods=["POST"]),
            Route(consent, self._guarded(self.withdraw, consent), methods=["DELETE"]),
        ]

    def _guarded(self, endpoint: Endpoint, address: str) -> Endpoint:
        return self._callers.guarded(endpoint, address, called=f"privacy {endpoint.__name__}")

    async def _person(self, request: Request, scope: str) -> Identity:
        who = await self._callers.who(request, scope)
        if who.org_id is not None:
            raise Refused(403, "a key of an organisation speaks for no person; ask with your own, or signed in")
        parameters.read(request.scope["query_string"], ())
        return who

    async def export(self, request: Request) -> Response:
        """What is kept of you, as a ZIP."""
        who = await self._person(request, READ)
        with tempfile.TemporaryDirectory(prefix="holdfast-export-") as folder:
            file = Path(folder) / "personal-data.zip"
            async with self._turns:
                exported = await self._hold.privacy.export(
                    who.user_id, file, actor=str(who.user_id), request_id=request_id_of(request)
                )
            # Not by its path: a server that is told one opens it after we are done, when it is gone.
            opened = file.open("rb")
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="personal-data-{exported.made_at:%Y-%m-%d}.zip"',
            "Content-Length": str(os.fstat(opened.fileno()).st_size),
            "X-Manifest-SHA256": exported.sha256,
        }
        return StreamingResponse(_chunks(opened), media_type="application/zip", headers=headers)

    async def erase(self, request: Request) -> Response:
        """Forget you."""
        who = await self._person(request, WRITE)
        asked = await typed(request, EraseMe)
        if asked.confirm != who.user_id:
            raise InvalidValue("confirm is your own id, which this is not; nothing was erased")
        request_id = request_id_of(request)
        await self._hold.appends.flush()  # what is logged of his requests: it cannot be written once he is gone
        erasure = await self._hold.privacy.erase(
            who.user_id, actor=str(who.user_id), reason=asked.reason, request_id=request_id
        )
        request.state.who = None  # for that reason this request is logged of nobody
        return fresh(OneErasure(_forgetting(erasure)), 202)

    async def consents(self, request: Request) -> Response:
        """What you agreed to, and took back."""
        who = await self._person(request, READ)
        async with self._hold.read(tenant=ALL) as unit:
            return fresh(ConsentList([_said(row) for row in await self._hold.consents.history(unit, who.user_id)]))

    async def give(self, request: Request) -> Response:
        """Agree to a text."""
        who = await self._person(request, WRITE)
        asked = await typed(request, GiveConsent)
        async with self._callers.writing(request, who) as unit:
            row = await self._hold.consents.give(unit, who.user_id, **msgspec.structs.asdict(asked))
        return fresh(OneConsent(_said(row)), 201)

    async def withdraw(self, request: Request) -> Response:
        """Take your consent back."""
        who = await self._person(request, WRITE)
        purpose = request.path_params["purpose"]
        async with self._callers.writing(request, who) as unit:
            row = await self._hold.consents.withdraw(unit, who.user_id, purpose, source=_SOURCE)
        return fresh(OneConsent(_said(row)))


async def _chunks(opened: BinaryIO) -> AsyncIterator[bytes]:
    with opened:
        while chunk := await asyncio.to_thread(opened.read, _CHUNK):
            yield chunk


def _said(row: Any) -> ShownConsent:
    return ShownConsent(**{name: getattr(row, name) for name in ShownConsent.__struct_fields__})


def _forgetting(erasure: Erasure) -> ShownErasure:
    return ShownErasure(**{name: getattr(erasure, name) for name in ShownErasure.__struct_fields__})


def described(operation: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What these endpoints take and answer, for the API description.

    Args:
        operation: `operation(id, summary, parameters, body, status, shape)` makes one.
    """
    purpose = {"name": "purpose", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 100}}
    export = operation("export-personal-data", "What is kept of you, as a ZIP.", [], None, "200", OneErasure)
    export["responses"]["200"] = {
        "description": "JSON files, and `manifest.json` with their hashes, whose own is in the header.",
        "headers": {"X-Manifest-SHA256": {"schema": {"type": "string"}}},
        "content": {"application/zip": {"schema": {"type": "string", "contentMediaType": "application/zip"}}},
    }
    return {
        f"{PATH}/export": {"get": export},
        f"{PATH}/erasure": {"post": operation("erase-me", "Forget you.", [], EraseMe, "202", OneErasure)},
        f"{PATH}/consents": {
            "get": operation("list-consents", "What you agreed to, and took back.", [], None, "200", ConsentList),
            "post": operation("give-consent", "Agree to a text.", [], GiveConsent, "201", OneConsent),
        },
        f"{PATH}/consents/{{purpose}}": {
            "delete": operation("withdraw-consent", "Take your consent back.", [purpose], None, "200", OneConsent),
        },
    }


DESCRIBED = (EraseMe, OneErasure, GiveConsent, OneConsent, ConsentList)
