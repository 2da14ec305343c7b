"""An application over a small database, and a client that speaks to it without a network."""

import datetime as dt
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from holdfast import ALL, Holdfast
from holdfast.http import create_app
from tests.http.library import Book, LibraryModel, Loan, Shelf

U256 = 2**256 - 1


def client_of(app: Starlette) -> httpx.AsyncClient:
    """A client whose requests are calls of `app`."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://holdfast.test")


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Holdfast]:
    """A library of two shelves and five books, on each backend."""
    async with await Holdfast.open(database_url, metadata=LibraryModel.metadata, migrate=True) as hold:
        async with hold.unit(tenant=ALL) as unit:
            upper, lower = Shelf(room=1), Shelf(room=2)
            unit.add(upper, lower)
            await unit.flush()
            unit.add(Book(title="Algae", pages=120, rating=4.5, worth=U256, lent=True, shelf_id=upper.id, note="hush"))
            at = dt.datetime(2026, 1, 31, 12, 30, 15, 250000, dt.UTC)
            unit.add(Book(title="Barnacles", pages=80, rating=None, worth=7, lent=False, printed=at, shelf_id=upper.id))
            unit.add(Book(title="Corals", pages=80, rating=3.0, worth=0, lent=False, state="used", cover=b"\x00\xff"))
            at = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
            unit.add(Book(title='<b>"Dulse" & co</b>', pages=300, rating=1.5, worth=10**30, lent=True, printed=at))
            unit.add(Book(title="Eelgrass, a life", pages=2**40, rating=4.5, worth=8, price=12.5, lent=False))
            unit.add(Loan(reader="ada", title="Algae"))
        yield hold


@pytest.fixture
async def books(library: Holdfast) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the library."""
    async with client_of(create_app(library)) as client:
        yield client
