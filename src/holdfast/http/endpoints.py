"""An endpoint as a declaration: where it is, what it takes, what it answers with; `openapi` reads the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from holdfast.hold import Holdfast
from holdfast.http import parameters
from holdfast.http.answers import answer
from holdfast.http.parameters import Parameter

_RENAMED = {"from": "since", "to": "until"}  # `from` is a word of Python's


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A GET that reads in one unit.

    Attributes:
        path: the address.
        words: what it answers, in a sentence; the API description shows it.
        takes: the parameters; their values are passed to `read` by name.
        returns: the type of the answer, a msgspec Struct, for the API description.
        read: `await read(unit, **values)` gives the answer; `from` and `to` are passed as `since` and `until`.
    """

    path: str
    words: str
    takes: tuple[Parameter, ...]
    returns: Any
    read: Callable[..., Awaitable[Any]]

    def route(self, hold: Holdfast) -> Route:
        """The route that answers it."""

        async def endpoint(request: Request) -> Response:
            given = parameters.read(request.scope["query_string"], self.takes)
            values = {_RENAMED.get(name, name): value for name, value in given.items() if value is not None}
            async with hold.store.read(confined=False) as unit:
                return answer(request, await self.read(unit, **values))

        return Route(self.path, endpoint, name=self.path)
