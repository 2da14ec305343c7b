"""The columns of a model that keeps API keys, and of the one that counts their uses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ColumnElement
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.model import Text, Timestamps
from holdfast.model.policy import PLAIN

Listed = JSON().with_variant(JSONB(), "postgresql")

TAG = "api_key:{lookup}"
"""What a key that was looked up depends on; the policy of the model has `Warm(tags=(TAG,))`."""


class Holders(NamedTuple):
    """Who may have keys, where that is said elsewhere than in their rows, and may end: members of an organisation.

    Attributes:
        words: who that is, as in `owners and admins of the organisation`.
        condition: in SQL, from a user's and an organisation's id, which are columns or values; true without the latter.
        tags: of what the condition looks at, as templates of the key's columns; one in which a column is NULL is none.
    """

    words: str
    condition: Callable[[Any, Any], ColumnElement[bool]]
    tags: tuple[str, ...]


class KeyColumns(Timestamps):
    """Mixed into the model of an application's API keys: `class ApiKey(KeyColumns, Model)`.

    The text of a key is nowhere: `lookup` is its HMAC. How often it is used is in a table of its own (`KeyUseColumns`),
    for it changes all the time and says nothing about what the key may do.

    Attributes:
        lookup, pepper: the HMAC, and the id of the pepper under which it was made.
        shown: the beginning of the key, to tell keys apart.
        name: what its owner calls it.
        user_id, org_id: whose it is; of an organisation's key who made it.
        scopes: what it may do.
        live: whether it is for the real thing, or for tests.
        tier: which rate limits it has.
        networks: addresses it may be used from, as CIDR; None for all.
        limits: how often it may be used, beside the limits of its tier, as `100/minute`; None for no more than those.
        expires_at, revoked_at: from when on it opens nothing.
        rotated_to: the key that takes its place.
        slow: bcrypt of another HMAC, where it is asked for.
        holders: who may have such keys, and opens nothing with them any more when he may not; None: whoever has them.
    """

    holders: ClassVar[Holders | None] = None

    lookup: Mapped[str] = mapped_column(Text(64), unique=True, sort_order=-90)
    pepper: Mapped[str] = mapped_column(Text(32), sort_order=-89)
    shown: Mapped[str] = mapped_column(Text(32), sort_order=-88, info=PLAIN)
    name: Mapped[str] = mapped_column(Text(255), sort_order=-87, info=PLAIN)
    user_id: Mapped[UUID] = mapped_column(index=True, sort_order=-86)
    org_id: Mapped[UUID | None] = mapped_column(index=True, sort_order=-85)
    scopes: Mapped[list[str]] = mapped_column(Listed, sort_order=-84, info=PLAIN)
    live: Mapped[bool] = mapped_column(default=True, sort_order=-83, info=PLAIN)
    tier: Mapped[str] = mapped_column(Text(50), default="free", sort_order=-82, info=PLAIN)
    networks: Mapped[list[str] | None] = mapped_column(Listed, sort_order=-81, info=PLAIN)
    limits: Mapped[list[str] | None] = mapped_column(Listed, sort_order=-81, info=PLAIN)
    expires_at: Mapped[dt.datetime | None] = mapped_column(index=True, sort_order=-80, info=PLAIN)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(index=True, sort_order=-79, info=PLAIN)
    rotated_to: Mapped[UUID | None] = mapped_column(sort_order=-78, info=PLAIN)
    slow: Mapped[str | None] = mapped_column(Text(60), sort_order=-77)


class KeyUseColumns:
    """Mixed into the model that counts uses: `class ApiKeyUse(KeyUseColumns, KeyedModel)`; its row goes with the key's.

    Its policy says `capture=False`: what follows the journal wants to know of keys, not of each use.
    """

    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    usage_count: Mapped[int] = mapped_column(BigInteger, default=0, info=PLAIN)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(info=PLAIN)
