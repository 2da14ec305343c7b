"""What may be written over HTTP is declared, and what may never be cannot be."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ARRAY, Integer, MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Expose, Policy
from holdfast.errors import ModelError
from holdfast.http.exposed import resources_of
from holdfast.model import NAMING, Model, SoftDeleted, Timestamps, Versioned

WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"writes": "create"}, "takes a tuple"),
    ({"writable": "name"}, "takes a tuple"),
    ({"writes": ("make",), "writable": ("name", "size")}, "names 'make'"),
    ({"writes": ("update",), "writable": ("colour",)}, "colour"),
    *(
        ({"writes": ("update",), "writable": (name,)}, f"names '{name}', which no caller may set")
        for name in ("id", "org_id", "version", "created_at", "updated_at", "deleted_at", "token")
    ),
    ({"writes": ("create",)}, "does not fit"),
    ({"writable": ("name",)}, "does not fit"),
    ({"writes": ("delete",), "writable": ("name",)}, "does not fit"),
    ({"writes": ("create",), "writable": ("name",)}, "creates rows, but size must be given"),
    ({"must_match": True}, "must_match"),
    ({"writes": ("create",), "writable": ("name", "size"), "must_match": True}, "must_match"),
    ({"scope": "a b"}, "is no scope"),
    ({"scope": "*"}, "is no scope"),
    ({"scope": {"read": ""}}, "is no scope"),
    ({"scope": {"look": "a:b"}}, "names 'look'"),
)


_numbers = count()


def declared(expose: Expose) -> type[Model]:
    """A model that is exposed so."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    columns = {
        "__tablename__": "exposed",
        "__policy__": Policy(expose, tenant="org_id", secret=("token",)),
        "__annotations__": {
            "org_id": Mapped[UUID],
            "name": Mapped[str],
            "size": Mapped[int],
            "token": Mapped[str],
            "parts": Mapped[list[int] | None],
        },
        "token": mapped_column(default=""),
        "parts": mapped_column(ARRAY(Integer)),
    }
    return type(f"Exposed{next(_numbers)}", (SoftDeleted, Timestamps, Versioned, Base), columns)


@pytest.mark.parametrize(("given", "told"), WRONG, ids=str)
def test_what_cannot_be_declared_is_refused_and_says_why(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        declared(Expose(**given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"writes": ("update",), "writable": ("parts",)}, "type cannot be written over HTTP"),
        ({"cached": True}, "wants a tier"),
    ],
)
def test_what_http_cannot_carry_out_is_refused_when_it_is_served(given: dict[str, Any], told: str) -> None:
    model = declared(Expose(**given))
    with pytest.raises(ModelError, match=told):
        resources_of([model])


def test_scopes_are_those_of_the_resource_unless_it_says_others() -> None:
    for scope, expected, is_closed in (
        (None, ("exposed:read", "exposed:write", "exposed:write"), False),
        ("crm", ("crm:read", "crm:write", "crm:write"), True),
        ({"delete": "crm:admin"}, ("exposed:read", "exposed:write", "crm:admin"), False),
        ({"read": "crm:see"}, ("crm:see", "exposed:write", "exposed:write"), True),
    ):
        expose = Expose(scope=scope)
        model = declared(expose)
        found = tuple(expose.scope_of(model, operation) for operation in ("read", "create", "delete"))
        assert (found, expose.is_closed) == (expected, is_closed)
