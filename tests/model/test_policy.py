"""A policy that cannot be carried out is refused while the class is made, and the message names what is wrong."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import Mapped, configure_mappers, mapped_column, relationship

from holdfast.errors import ModelError
from holdfast.model import NAMING, Aspect, Model, Policy, models_of, require_columns, uuid7


class Announced(Aspect):
    """Wants a column with every change."""

    def __init__(self, column: str) -> None:
        self.column = column

    def check(self, model: type[Any]) -> None:
        require_columns(model, (self.column,), "Announced(column=…)")

    def needs(self, model: type[Any]) -> tuple[str, ...]:
        return (self.column,)


class Loud(Announced):
    """A kind of the kind."""


def declare(policy: Any, metadata: MetaData | None = None, module: str | None = None) -> type[Any]:
    """A model `Note` with this policy, on metadata of its own."""

    class Base(Model):
        __abstract__ = True

    Base.metadata = metadata or MetaData(naming_convention=NAMING)
    namespace = {
        "__tablename__": "notes",
        "__policy__": policy,
        "__module__": module or f"{__name__}.{uuid7()}",  # one name, one class a test
        "__annotations__": {"title": Mapped[str], "text": Mapped[str], "stars": Mapped[int]},
    }
    return type("Note", (Base,), namespace)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Policy(tenant="owner"), r"Policy\(tenant=…\) names the column 'owner'"),
        (lambda: Policy(private=("title", "phone")), r"Policy\(private=…\) names the column 'phone'"),
        (lambda: Policy(secret=("sql",)), r"Policy\(secret=…\) names the column 'sql'"),
        (lambda: Policy(Announced("mood")), r"Announced\(column=…\) names the column 'mood'"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(make: Any, where: str) -> None:
    with pytest.raises(ModelError, match=rf"Note: {where}, which notes does not have; it has id, title, text, stars"):
        declare(make())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Policy("title"), "takes aspects, not 'title'"),
        (lambda: Policy(Announced), "takes aspects, not <class"),
        (lambda: Policy(private="title"), r"private=\('title',\)"),
        (lambda: Policy(secret="title"), r"secret=\('title',\)"),
        (lambda: declare({"tenant": "title"}), r"must be a Policy\(…\)"),
        (
            lambda: declare(Policy(Announced("title"), capture=False)),
            "keeps the model out of it; remove one of the two",
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        make()


def test_an_aspect_that_needs_a_missing_column_is_refused_even_if_it_does_not_check() -> None:
    class Careless(Aspect):
        def needs(self, model: type[Any]) -> tuple[str, ...]:
            return ("nowhere",)

    with pytest.raises(ModelError, match="Careless names the column 'nowhere'"):
        declare(Policy(Careless()))


def test_facts_are_what_the_aspects_need_once_each_in_the_order_of_the_table() -> None:
    policy = Policy(Announced("stars"), Announced("title"), Loud("stars"))
    note = declare(policy)
    assert policy.needs(note) == ("title", "stars")


def test_aspects_are_found_by_kind() -> None:
    first, second, loud = Announced("title"), Announced("text"), Loud("stars")
    policy = Policy(first, second, loud)
    assert policy.aspect(Announced) is first
    assert policy.aspect(Loud) is loud
    assert policy.aspect(Aspect) is first
    assert policy.all(Announced) == (first, second, loud)
    assert Policy().aspect(Announced) is None


def test_the_worked_example_of_an_aspect_does_what_it_says() -> None:
    source = (Aspect.__doc__ or "").partition("::\n\n")[2]
    namespace: dict[str, Any] = {"Aspect": Aspect, "Model": Model, "require_columns": require_columns}
    lines = [line.removeprefix("        ") for line in source.splitlines()]
    exec("from __future__ import annotations\n" + "\n".join(lines), namespace)
    announced = namespace["Announced"]
    policy = Policy(announced("title"))
    assert policy.needs(declare(policy)) == ("title",)
    with pytest.raises(ModelError, match="'mood'"):
        declare(Policy(announced("mood")))


def test_a_corrected_declaration_may_follow_a_refused_one() -> None:
    metadata = MetaData(naming_convention=NAMING)
    with pytest.raises(ModelError) as refused:
        declare(Policy(private=("nowhere",)), metadata, __name__)
    note = declare(Policy(private=("title",)), metadata, __name__)
    page = type(
        "Page",
        (note.__mro__[1],),
        {
            "__tablename__": "pages",
            "__module__": __name__,
            "__annotations__": {"note_id": Mapped[UUID], "note": Mapped[Any]},
            "note_id": mapped_column(ForeignKey("notes.id")),
            "note": relationship(f"{__name__}.Note"),
        },
    )
    configure_mappers()
    assert page.note.property.mapper.class_ is note
    assert models_of(metadata) == [note, page]
    assert refused.type is ModelError


def test_models_come_in_the_order_of_their_foreign_keys() -> None:
    metadata = MetaData(naming_convention=NAMING)
    note = declare(Policy(), metadata)
    base = note.__mro__[1]
    others = [
        type(
            name,
            (base,),
            {
                "__tablename__": name.lower(),
                "__annotations__": {"note_id": Mapped[UUID]},
                "note_id": mapped_column(ForeignKey("notes.id")),
                "__module__": f"{__name__}.{uuid7()}",
            },
        )
        for name in ("Zebra", "Apple")
    ]
    found = models_of(metadata)
    assert found[0] is note
    assert set(found[1:]) == set(others)
    assert models_of(MetaData()) == []
