"""`/v1/api-keys`: API keys over HTTP, for whose they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.apps.accounts.models import KEY_ROLES, ApiKey, OrganizationMember
from holdfast.cache.durations import seconds
from holdfast.errors import ConfigurationError, InvalidValue, NotFound
from holdfast.guard.keys import KeyUse, NewKey
from holdfast.guard.keys.keys import DEFAULT_SCOPES
from holdfast.hold import Holdfast
from holdfast.http import parameters
from holdfast.http.answers import fresh
from holdfast.http.bodies import typed
from holdfast.http.callers import Callers, Endpoint
from holdfast.http.identity import Identity, Refused
from holdfast.http.parameters import flag, uuid
from holdfast.store import ALL, Unit

PATH = "/v1/api-keys"
READ, WRITE = "api-keys:read", "api-keys:write"

ORG = uuid("org", "The organisation whose keys to list, by id; your own without it.")
DEAD = flag("dead", "Also keys that were revoked or have expired.")


class CreateApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key to make. `scopes` are among your own; `expires_at` is a time to come; `networks` are CIDR; `limits` are how
    often it may be used, such as `100/minute`, beside the limits that you have."""

    name: str
    org_id: UUID | None = None
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    live: bool = True
    networks: tuple[str, ...] | None = None
    limits: tuple[str, ...] | None = None
    expires_at: dt.datetime | None = None


class RotateApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long the old key goes on, such as `24h`."""

    grace: str = "0s"


class ShownApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its text, which is kept nowhere. `shown` is how it begins; `is_held` of a list is false where its
    user may not have it any more, so that it opens nothing."""

    id: UUID
    name: str
    shown: str
    user_id: UUID
    org_id: UUID | None
    scopes: list[str]
    live: bool
    tier: str
    networks: list[str] | None
    limits: list[str] | None
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    rotated_to: UUID | None
    usage_count: int | None = None
    last_used_at: dt.datetime | None = None
    is_held: bool | None = None


class OneApiKey(msgspec.Struct, frozen=True):
    """A key."""

    data: ShownApiKey


class ApiKeyList(msgspec.Struct, frozen=True):
    """Keys, the newest first."""

    data: list[ShownApiKey]


class NewApiKey(msgspec.Struct, frozen=True):
    """A key that was just made; `key` is its text, which is never shown again."""

    key: str
    data: ShownApiKey


class ApiKeysOverHttp:
    """The endpoints; none where the accounts app is not among the models."""

    def __init__(self, hold: Holdfast, callers: Callers) -> None:
        self._hold = hold
        self._callers = callers
        self.is_there = callers.are_known

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        if not self.is_there:
            return []
        one = PATH + "/{id}"
        return [
            Route(PATH, self._guarded(self.list, PATH), methods=["GET"]),
            Route(PATH, self._guarded(self.create, PATH), methods=["POST"], name="create"),
            Route(one, self._guarded(self.get, one), methods=["GET"]),
            Route(one, self._guarded(self.revoke, one), methods=["DELETE"], name="revoke"),
            Route(one + "/rotate", self._guarded(self.rotate, one + "/rotate"), methods=["POST"]),
        ]

    def _guarded(self, endpoint: Endpoint, address: str) -> Endpoint:
        return self._callers.guarded(endpoint, address, called=f"api-keys {endpoint.__name__}")

    async def list(self, request: Request) -> Response:
        """Your own keys, or those of an organisation that you belong to."""
        who = await self._callers.who(request, READ)
        asked = parameters.read(request.scope["query_string"], (ORG, DEAD))
        org_id = who.org_id if asked["org"] is None else asked["org"]
        async with self._hold.read(tenant=ALL) as unit:
            if org_id is not None:
                await self._role(unit, who, org_id)
                found = await self._hold.keys.list(unit, org_id=org_id, dead=asked["dead"])
            else:
                mine = await self._hold.keys.list(unit, user_id=who.user_id, dead=asked["dead"])
                found = [(row, use) for row, use in mine if row.org_id is None]
            return fresh(ApiKeyList([_shown(row, use) for row, use in found]))

    async def create(self, request: Request) -> Response:
        """Make a key."""
        who = await self._maker(request)
        asked = await typed(request, CreateApiKey)
        lacking = [scope for scope in asked.scopes if not who.may(scope)]
        if lacking:
            raise Refused(403, f"you cannot give what you do not have: {', '.join(map(repr, lacking))}"[:500])
        org_id = who.org_id if asked.org_id is None else asked.org_id
        async with self._callers.writing(request, who) as unit:
            if org_id is not None:
                await self._role(unit, who, org_id, KEY_ROLES)
            given = msgspec.structs.asdict(asked) | {"org_id": org_id, "user_id": who.user_id}
            made = await create_api_key(self._hold, unit, **given)
        return _made(made)

    async def get(self, request: Request) -> Response:
        """One key."""
        who = await self._callers.who(request, READ)
        parameters.read(request.scope["query_string"], ())
        async with self._hold.read(tenant=ALL) as unit:
            row = await self._mine(unit, who, request)
        return fresh(OneApiKey(_shown(row)))

    async def rotate(self, request: Request) -> Response:
        """Make a key that takes the place of this one."""
        who = await self._maker(request)
        grace = _seconds((await typed(request, RotateApiKey)).grace)
        async with self._callers.writing(request, who) as unit:
            row = await self._mine(unit, who, request, KEY_ROLES)
            if not all(map(who.may, row.scopes)):
                raise Refused(403, "you cannot give what you do not have: this key may do more than you")
            made = await self._hold.keys.rotate(unit, row.id, grace=grace)
        return _made(made)

    async def revoke(self, request: Request) -> Response:
        """Let a key open nothing any more."""
        who = await self._callers.who(request, WRITE)
        parameters.read(request.scope["query_string"], ())
        async with self._callers.writing(request, who) as unit:
            row = await self._mine(unit, who, request, KEY_ROLES)
            return fresh(OneApiKey(_shown(await self._hold.keys.revoke(unit, row.id))))

    async def _maker(self, request: Request) -> Identity:
        """Who asks for a new key. A key with limits of its own gets none: by another key it would escape them."""
        who = await self._callers.who(request, WRITE)
        parameters.read(request.scope["query_string"], ())
        if who.limits is not None:
            raise Refused(403, "a key with limits of its own makes no other keys; use one without, or a session")
        return who

    async def _mine(self, unit: Unit, who: Identity, request: Request, roles: Sequence[str] = ()) -> ApiKey:
        """The key that is asked for, if it is his who asks; what is another's is not there."""
        key_id = _uuid(request.path_params["id"], "the id of the key")
        row: ApiKey | None = await unit[ApiKey].find(key_id)
        if row is not None:
            if row.org_id is not None:
                try:
                    await self._role(unit, who, row.org_id, roles)
                except NotFound:
                    row = None
            elif row.user_id != who.user_id or who.org_id is not None:
                row = None
        if row is None:
            raise NotFound(f"there is no API key {key_id}")
        return row

    async def _role(self, unit: Unit, who: Identity, org_id: UUID, roles: Sequence[str] = ()) -> None:
        """Raise `NotFound` for an organisation that who asks does not belong to, and 403 for a role that is too small.

        What a key of the organisation changes wants the role that its user has now, too: what is known of the key may
        be a second old.
        """
        if who.org_id is not None:
            if who.org_id != org_id:
                raise NotFound(f"there is no organisation {org_id}")
            if not roles:  # who has such a key is one of those who may look
                return
        members = unit[OrganizationMember]
        member = await members.first(
            members.query().where(OrganizationMember.org_id == org_id, OrganizationMember.user_id == who.user_id)
        )
        if member is None:
            raise NotFound(f"there is no organisation {org_id}")
        if roles and member.role not in roles:
            raise Refused(403, f"as {member.role} of the organisation you may look at its keys, and change none")


def _made(made: NewKey[ApiKey]) -> Response:
    response = fresh(NewApiKey(made.text, _shown(made.row)), 201)
    response.headers["Location"] = f"{PATH}/{made.row.id}"
    return response


def _shown(row: ApiKey, use: KeyUse | None = None) -> ShownApiKey:
    found: dict[str, Any] = {name: getattr(row, name) for name in ShownApiKey.__struct_fields__ if hasattr(row, name)}
    if use is not None:
        found |= {"usage_count": use.usage_count, "last_used_at": use.last_used_at, "is_held": use.is_held}
    return ShownApiKey(**found)


def _seconds(grace: str) -> float:
    try:
        return seconds(grace, "grace")
    except ConfigurationError as error:
        problem = str(error)
    raise InvalidValue(problem[:500])


def _uuid(given: str, what: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise InvalidValue(f"{what} is a UUID, not {given[:60]!r}") from None


def described(operation: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What these endpoints take and answer, for the API description.

    Args:
        operation: `operation(id, summary, parameters, body, status, shape)` makes one.
    """
    one = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    listing = [ORG.described(), DEAD.described()]
    return {
        PATH: {
            "get": operation(
                "list-api-keys", "Your API keys, or those of an organisation.", listing, None, "200", ApiKeyList
            ),
            "post": operation(
                "create-api-key", "Make an API key; it is shown once.", [], CreateApiKey, "201", NewApiKey
            ),
        },
        f"{PATH}/{{id}}": {
            "get": operation("get-api-key", "One API key.", [one], None, "200", OneApiKey),
            "delete": operation(
                "revoke-api-key", "Let an API key open nothing any more.", [one], None, "200", OneApiKey
            ),
        },
        f"{PATH}/{{id}}/rotate": {
            "post": operation(
                "rotate-api-key",
                "Make an API key that takes the place of another.",
                [one],
                RotateApiKey,
                "201",
                NewApiKey,
            ),
        },
    }


DESCRIBED = (CreateApiKey, RotateApiKey, OneApiKey, ApiKeyList, NewApiKey)
