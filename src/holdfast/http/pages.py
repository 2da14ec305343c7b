"""The pages: their templates, their files, and how they are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from holdfast.http import formats
from holdfast.http.answers import REVALIDATE, tagged

_HERE = Path(__file__).parent
_FILTERS = ("units", "about", "percent", "short", "moment", "seconds", "milliseconds", "clock", "size")
MEDIA_TYPE = "text/html; charset=utf-8"


class Static(StaticFiles):
    """The pages' own files; a browser asks each time whether they changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Pages:
    """Renders the templates.

    Args:
        title: what the pages are called.
        place: the database, fit for people.
        links: what every page leads to as data, by name.
    """

    def __init__(self, title: str, place: str, links: dict[str, str]) -> None:
        self._given = {"title": title, "place": place, "links": links}
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,  # names and addresses come from outside
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {name: getattr(formats, name) for name in _FILTERS}

    def routes(self) -> list[BaseRoute]:
        """The route of their files."""
        return [Mount("/static", Static(directory=_HERE / "static"))]

    def rendered(self, template: str, values: dict[str, Any]) -> bytes:
        """A template with values."""
        return self._templates.get_template(template).render(self._given | values).encode()

    def answer(self, request: Request, template: str, values: dict[str, Any]) -> Response:
        """A template with values, as an answer that is not sent again to who has it."""
        return tagged(request, self.rendered(template, values), MEDIA_TYPE, REVALIDATE)
