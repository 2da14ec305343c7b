"""Who asks: by an API key, or by a session; never by a cookie, which other sites' pages could send along."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

import msgspec
from starlette.requests import Request

from holdfast.apps.accounts.limits import hit, meter_of
from holdfast.apps.accounts.models import Organization, User
from holdfast.cache.derived import Derived, Source
from holdfast.guard.audit import Origin
from holdfast.guard.idempotency import caller_of
from holdfast.guard.keys import KeyRefused
from holdfast.guard.keys.access import EVERYTHING, KeyFacts, allows
from holdfast.guard.keys.text import read_key
from holdfast.guard.limits import Decision
from holdfast.guard.limits.decision import unlimited
from holdfast.guard.limits.headers import headers_of, problem_of
from holdfast.guard.limits.meter import Meter
from holdfast.guard.services import SIGNATURE, ServiceRefused
from holdfast.guard.sessions import SessionRefused
from holdfast.hold import Holdfast
from holdfast.http.guesses import Guesses
from holdfast.http.problems import Refusal
from holdfast.store import ALL

_SIGNATURE = SIGNATURE.lower().encode()
_SAID = frozenset((b"authorization", b"x-api-key", _SIGNATURE))
# A browser asks for a name, which is not looked at, and a password, which is a key.
_ASKING = {"WWW-Authenticate": 'Bearer realm="holdfast", Basic realm="holdfast", charset="UTF-8"'}
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="holdfast"'}


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        user_id: who it is, or who made the key.
        org_id: of an organisation's key: for which it acts, and for no other.
        scopes: what it may do; of a session everything that its user may.
        key_id: of a key; None of a session.
        limits: that the key has of its own.
        counted: what its limits say to this request, which they let pass.
    """

    user_id: UUID
    org_id: UUID | None
    scopes: tuple[str, ...]
    key_id: UUID | None
    counted: Decision
    limits: tuple[str, ...] | None = None

    @property
    def tenant(self) -> str:
        """Whose rows it sees and writes: the organisation's, or the user's own."""
        return str(self.org_id or self.user_id)

    @property
    def caller(self) -> str:
        """For whom it acts, with the kind before it."""
        return caller_of(self.user_id, self.org_id)

    def may(self, scope: str) -> bool:
        """Whether it may do this."""
        return allows(self.scopes, scope)


class Refused(Refusal):
    """A request that is not let through: 401 where nobody knows who asks, 403 where it is known and may not, 429 where
    it was too often."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers or (_CHALLENGE if status == 401 else {}))


class _Holder(NamedTuple):
    """Who has a key: what is kept of it, and what is counted for him. His user and organisation are active."""

    facts: KeyFacts
    meter: Meter


class Identities:
    """Finds out who asks.

    What was found of a key is kept for as long as the cache gives the very facts, user and organisation that it was
    found from: so a key is as dead as the cache knows it to be.
    """

    def __init__(self, hold: Holdfast) -> None:
        self._hold = hold
        self._guesses = Guesses(hold.limits, hold.settings.key_guesses)
        self._holders: Derived[_Holder] = Derived(hold.cache.peek)

    async def identified(self, request: Request, scope: str | None, *, browser: bool = False) -> Identity:
        """Who asks, and may do what `scope` names, None for nothing special, and as often as now.

        What is refused for its scope has not counted; what asks too often has not either. Once it is known who asks,
        `request.state.known` has the user and the organisation, whatever is refused then.

        A service that signs its request beside that (`Holdfast-Signature`) is not limited: nothing counts it.

        From an address that has sent too many keys which open nothing, only what is known here already is taken.

        Raises:
            Refusal: nobody is known by what was given, or he may not; or his address is shut out. Unavailable: it is
                not known just now.
        """
        text, signature = _given(request, browser=browser)
        is_service = signature is not None and await self._is_signed(request, signature)
        client = request.scope.get("client")
        address = None if client is None else client[0]
        try:
            if _is_of_session(text):
                return await self._of_session(request, text, address, is_service)
            return await self._of_key(request, text, scope, address, is_service)
        except KeyRefused as refused:
            if refused.is_known:
                raise Refused(403, str(refused)) from None
            if refused.reason in ("malformed", "unknown"):
                await self._guesses.count(address)
            told = "this API key opens nothing here: it is not known, or not any more"
            raise Refused(401, told, _ASKING if browser else None) from None
        except SessionRefused as refused:
            await self._guesses.count(address)
            raise Refused(401, str(refused)) from None

    async def _is_signed(self, request: Request, signature: str) -> bool:
        """That one of our services has signed a request. Refused: it has not, or the request was made before."""
        scope = request.scope
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        query: bytes = scope["query_string"]
        target = (path + b"?" + query if query else path).decode("latin-1")
        try:
            await self._hold.services.verify(signature, request.method, target, await request.body())
        except ServiceRefused as refused:
            raise Refused(401, str(refused)) from None
        return True

    async def _of_session(self, request: Request, text: str, address: str | None, is_service: bool) -> Identity:
        hold = self._hold
        if self._guesses.is_shut(address) and not hold.sessions.is_near(text):
            self._guesses.refuse_shut(address)
        session = await hold.sessions.verify(text)
        request.state.known = (session.user_id, None)
        user, _ = await self._user(session.user_id)
        if is_service:
            counted = unlimited((), time.time())
        else:
            counted = await hit(hold, user_id=user.id, org_id=None, tier=user.tier)
        return Identity(user_id=user.id, org_id=None, scopes=(EVERYTHING,), key_id=None, counted=_passed(counted))

    async def _of_key(
        self, request: Request, text: str, scope: str | None, address: str | None, is_service: bool
    ) -> Identity:
        keys = self._hold.keys
        name = keys.name_of(text)
        holder = None if name is None else self._holders.get(name)
        if holder is not None:
            facts = holder.facts
            keys.use(facts, scope=scope, address=address)
            request.state.known = (facts.user_id, facts.org_id)
        else:
            self._guesses.refuse_shut(address)
            source = await keys.traced(text)
            facts = source.value
            keys.use(facts, scope=scope, address=address)
            request.state.known = (facts.user_id, facts.org_id)
            holder = await self._found(source)
        if is_service:
            counted = unlimited((), time.time())
        else:
            counted = _passed(await self._hold.limits.hit_meter(holder.meter))
        return Identity(
            user_id=facts.user_id,
            org_id=facts.org_id,
            scopes=facts.scopes,
            key_id=facts.id,
            counted=counted,
            limits=facts.limits,
        )

    async def _found(self, key: Source) -> _Holder:
        """Who has a key. Refused: he, or his organisation, is not active."""
        facts: KeyFacts = key.value
        _, kept_user = await self._user(facts.user_id)
        made_of = [key, kept_user]
        organization = None
        if facts.org_id is not None:
            organization, kept = await self._hold.cache[Organization].traced(facts.org_id, tenant=ALL)
            if organization is None or not organization.is_active:
                raise Refused(401, "this organisation is not there any more, or not active")
            made_of.append(kept)
        meter = meter_of(
            self._hold,
            user_id=facts.user_id,
            org_id=facts.org_id,
            tier=facts.tier,
            organization=organization,
            key=facts,
        )
        holder = _Holder(facts, meter)
        self._holders.keep(key.key, holder, made_of)
        return holder

    async def _user(self, user_id: UUID) -> tuple[User, Source | None]:
        """A user, and what is kept of him. Refused: he is not active."""
        user, kept = await self._hold.cache[User].traced(user_id, tenant=ALL)
        if user is None or not user.is_active:
            raise Refused(401, "this user is not there any more, or not active")
        return user, kept


def _passed(counted: Decision) -> Decision:
    """What was counted. Refused: it was too often."""
    if not counted.allowed:
        problem = problem_of(counted)
        raise Refused(problem["status"], problem["detail"], headers_of(counted))
    return counted


def _is_of_session(text: str) -> bool:
    """Whether it is the token of a session; what is no such thing is told by a look."""
    if "_session_" not in text:
        return False
    read = read_key(text)
    return read is not None and read.mode == "session"


def _password(given: str) -> str:
    """The password of `Basic` (RFC 7617). Refused: there is none."""
    try:
        _, colon, password = base64.b64decode(given.strip(), validate=True).decode("latin-1").partition(":")
    except binascii.Error:
        colon = password = ""
    if not colon:
        raise Refused(401, "Authorization: Basic is a name and, as the password, an API key", _ASKING)
    return password


def says_who(request: Request) -> bool:
    """Whether a request says who asks, rightly or not."""
    for name, _ in request.scope["headers"]:  # noqa: SIM110  asked of every request: any(…) takes twice as long
        if name in _SAID:
            return True
    return False


def request_id_of(request: Request) -> str | None:
    """What a request is called, by who sends it or by us."""
    found: str | None = request.scope.get("holdfast.request_id")
    return found


def origin_of(request: Request) -> Origin:
    """Where a request comes from, for the audit."""
    address = None if request.client is None else request.client.host
    return Origin(ip=address, agent=request.headers.get("user-agent"))


def _given(request: Request, *, browser: bool) -> tuple[str, str | None]:
    """The key or token of a request, `Authorization: Bearer …` or `X-API-Key: …`, and the signature of a service.

    With `browser` the password of `Authorization: Basic …` is a key, too.
    """
    asking = _ASKING if browser else None
    headers: list[tuple[bytes, bytes]] = request.scope["headers"]
    found = [(name, value.decode("latin-1")) for name, value in headers if name in _SAID]
    signature = None
    if any(name == _SIGNATURE for name, _ in found):
        signature = ",".join(value for name, value in found if name == _SIGNATURE)  # of two, none is right
        found = [one for one in found if one[0] != _SIGNATURE]
    if not found:
        raise Refused(401, "say who you are: Authorization: Bearer <API key or token of a session>", asking)
    if len(found) > 1:  # the server in front of this one may have looked at another of them
        raise Refused(401, "say who you are once: in one header Authorization, or in one X-API-Key")
    [(name, value)] = found
    if name == b"authorization":
        kind, _, value = value.partition(" ")
        if browser and kind.lower() == "basic":
            return _password(value), signature
        if kind.lower() != "bearer":
            raise Refused(401, "Authorization takes Bearer <API key or token of a session> here, and no other scheme")
    return value.strip(), signature
