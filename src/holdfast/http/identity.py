"""Who asks: by an API key, or by a session; never by a cookie, which other sites' pages could send along."""

from __future__ import annotations

from uuid import UUID

import msgspec
from starlette.requests import Request

from holdfast.guard.keys import KeyRefused
from holdfast.guard.keys.access import EVERYTHING, allows
from holdfast.guard.keys.text import read_key
from holdfast.guard.sessions import SessionRefused
from holdfast.hold import Holdfast

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="holdfast"'}


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        user_id: who it is, or who made the key.
        org_id: of an organisation's key: for which it acts, and for no other.
        scopes: what it may do; of a session everything that its user may.
        key_id: of a key; None of a session.
    """

    user_id: UUID
    org_id: UUID | None
    scopes: tuple[str, ...]
    key_id: UUID | None

    def may(self, scope: str) -> bool:
        """Whether it may do this."""
        return allows(self.scopes, scope)


class Refused(Exception):
    """A request that is not let through.

    Attributes:
        status: 401 where nobody knows who asks, 403 where it is known and may not.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = _CHALLENGE if status == 401 else {}


async def identified(hold: Holdfast, request: Request, scope: str) -> Identity:
    """Who asks, and may do what `scope` names.

    Raises:
        Refused: nobody is known by what was given, or he may not. Unavailable: it is not known just now.
    """
    text = _given(request)
    read = read_key(text)
    try:
        if read is not None and read.mode == "session":
            session = await hold.sessions.verify(text)
            return Identity(user_id=session.user_id, org_id=None, scopes=(EVERYTHING,), key_id=None)
        address = None if request.client is None else request.client.host
        key = await hold.keys.verify(text, scope=scope, address=address)
    except KeyRefused as refused:
        if refused.is_known:
            raise Refused(403, str(refused)) from None
        raise Refused(401, "this API key opens nothing here: it is not known, or not any more") from None
    except SessionRefused as refused:
        raise Refused(401, str(refused)) from None
    return Identity(user_id=key.user_id, org_id=key.org_id, scopes=key.scopes, key_id=key.id)


def _given(request: Request) -> str:
    """The key or token of a request: `Authorization: Bearer …`, or `X-API-Key: …`."""
    found = [("authorization", value) for value in request.headers.getlist("authorization")]
    found += [("x-api-key", value) for value in request.headers.getlist("x-api-key")]
    if not found:
        raise Refused(401, "say who you are: Authorization: Bearer <API key or token of a session>")
    if len(found) > 1:  # the server in front of this one may have looked at another of them
        raise Refused(401, "say who you are once: in one header Authorization, or in one X-API-Key")
    [(name, value)] = found
    if name == "authorization":
        kind, _, value = value.partition(" ")
        if kind.lower() != "bearer":
            raise Refused(401, "Authorization takes Bearer <API key or token of a session> here, and no other scheme")
    return value.strip()
