"""Models of a newspaper, which callers write, with a column of every kind that can be written; and who they are."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Date,
    Enum,
    Float,
    ForeignKey,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from holdfast import ALL, Amount, Audited, Expose, Holdfast, Policy, Warm
from holdfast.apps import accounts
from holdfast.apps.accounts import Organization, OrganizationMember, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.http import create_app
from holdfast.model import NAMING, Attributed, Model, SoftDeleted, Text, Timestamps, Versioned, live_unique
from tests.backends import settings_for
from tests.http.conftest import client_of


class PressModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class PressDesk(PressModel):
    """A desk of the paper."""

    __tablename__ = "press_desks"
    __policy__ = Policy(
        Expose(
            name="desks",
            filters=("room",),
            sort=("room",),
            include=("articles",),
            key="room",
            writes=("create", "delete"),
            writable=("room", "name"),
        )
    )

    room: Mapped[int] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(Text(40), default="nameless")
    articles: Mapped[list[PressArticle]] = relationship(back_populates="desk", passive_deletes="all")


class PressArticle(Timestamps, Attributed, Versioned, PressModel):
    """An article."""

    __tablename__ = "press_articles"
    __policy__ = Policy(
        Expose(
            name="articles",
            filters=("words", "printed_at"),
            sort=("headline", "words"),
            include=("desk",),
            writes=("create", "update", "delete"),
            writable=(
                *("slug", "headline", "words", "column_width", "rating", "worth", "price", "urgent", "printed_at"),
                *("day", "state", "cover", "details", "desk_id"),
            ),
        ),
        secret=("draft",),
    )
    __table_args__ = (CheckConstraint("words >= 0", name="words"),)

    slug: Mapped[str | None] = mapped_column(Text(50), unique=True)
    headline: Mapped[str] = mapped_column(Text(200), doc="What stands above it.")
    words: Mapped[int] = mapped_column(default=0)
    column_width: Mapped[int | None] = mapped_column(SmallInteger)
    rating: Mapped[float | None] = mapped_column(Float)
    worth: Mapped[int | None] = mapped_column(Amount())
    price: Mapped[Decimal | None] = mapped_column(Numeric(8, 2))
    urgent: Mapped[bool] = mapped_column(default=False)
    printed_at: Mapped[dt.datetime | None]
    day: Mapped[dt.date | None] = mapped_column(Date)
    state: Mapped[str] = mapped_column(Enum("draft", "ready", name="press_state", native_enum=False), default="draft")
    cover: Mapped[bytes | None] = mapped_column(LargeBinary)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    draft: Mapped[str | None]
    desk_id: Mapped[UUID | None] = mapped_column(ForeignKey("press_desks.id"))
    desk: Mapped[PressDesk | None] = relationship(back_populates="articles")


class Memo(SoftDeleted, Versioned, PressModel):
    """A memo of an organisation's own."""

    __tablename__ = "press_memos"
    __policy__ = Policy(
        Warm(max_staleness="30s"),
        Expose(
            name="memos",
            filters=("title",),
            sort=("title",),
            writes=("create", "update", "delete"),
            writable=("title",),
            scope={"delete": "memos:admin"},
            must_match=True,
            cached=True,
        ),
        Audited(),
        tenant="org_id",
    )
    __table_args__ = (live_unique("org_id", "title"),)

    org_id: Mapped[UUID]
    title: Mapped[str] = mapped_column(Text(100))


class Salary(PressModel):
    """What somebody earns: read with a key alone."""

    __tablename__ = "press_salaries"
    __policy__ = Policy(Expose(name="salaries", filters=("name",), scope="payroll"))

    name: Mapped[str]
    amount: Mapped[int]


METADATA = (PressModel.metadata, accounts.metadata)


class Press:
    """A newspaper behind an application, and keys: `ada` and `bob` of two organisations, `reader`, `eve` of none."""

    def __init__(self, hold: Holdfast, client: httpx.AsyncClient) -> None:
        self.hold, self.client = hold, client
        self.keys: dict[str, str] = {}
        self.users: dict[str, UUID] = {}
        self.orgs: dict[str, UUID] = {}

    async def people(self) -> None:
        """Make them."""
        wanted: dict[str, tuple[str | None, tuple[str, ...]]] = {
            "ada": ("acme", ("*",)),
            "bob": ("globex", ("*",)),
            "reader": ("acme", ("articles:read", "memos:read", "memos:write")),
            "eve": (None, ("*",)),
        }
        async with self.hold.unit(tenant=ALL) as unit:
            for name in ("acme", "globex"):
                organization = Organization(name=name, tier="enterprise", max_requests_per_month=10**9)
                made = await unit[Organization].add(organization)
                self.orgs[name] = made.id
            for name, (org, scopes) in wanted.items():
                user = await unit[User].add(User(external_id=name, tier="enterprise"))
                self.users[name] = user.id
                org_id = self.orgs[org] if org else None
                if org_id is not None:
                    await unit[OrganizationMember].add(OrganizationMember(org_id=org_id, user_id=user.id, role="owner"))
                key = await create_api_key(self.hold, unit, name=name, user_id=user.id, org_id=org_id, scopes=scopes)
                self.keys[name] = key.text

    async def ask(self, who: str, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer to a request of `who`; "" is nobody. Paths are those of resources."""
        headers = dict(given.pop("headers", {}))
        if who:
            headers["X-API-Key"] = self.keys.get(who, who)
        return await self.client.request(method, f"/v1/resources/{path}", headers=headers, **given)


@contextlib.asynccontextmanager
async def press_at(url: str, **settings: Any) -> AsyncIterator[Press]:
    """A newspaper in the database at `url`."""
    async with await Holdfast.open(settings=settings_for(url, **settings), metadata=METADATA) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            press = Press(hold, client)
            await press.people()
            yield press
        await app.state.live.close()
