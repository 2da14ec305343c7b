"""Models say whose their rows are and what becomes of them; what they leave unsaid is found."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, ForeignKey, MetaData, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import ALL, Holdfast, KeyedModel, Model, Policy
from holdfast.apps import accounts, agents
from holdfast.errors import ConfigurationError, ModelError, NotFound
from holdfast.guard.audit import Audited
from holdfast.model import SoftDeleted, Timestamps, models_of
from holdfast.operate.privacy import (
    Forgotten,
    Marks,
    Mentions,
    Personal,
    erases,
    examine_privacy,
    places,
    privacy,
    sorts_of,
)
from holdfast.operate.privacy.marks import is_mark
from holdfast.store import AppendOnly
from tests.backends import settings_for


class PrivacyBase(Model):
    __abstract__ = True
    metadata = MetaData()


class PrivacyKeyed(KeyedModel):
    __abstract__ = True
    metadata = PrivacyBase.metadata


class Patient(PrivacyBase):
    __tablename__ = "patients"
    __policy__ = Policy(Personal("id", marks=("mail",)), private=("name", "mail"))
    name: Mapped[str]
    mail: Mapped[str | None]


class Visit(SoftDeleted, Timestamps, PrivacyBase):
    """Refers to a patient, and does not go by itself when he does; some are deleted already, softly."""

    __tablename__ = "patient_visits"
    __policy__ = Policy(Personal("patient_id"), tenant="clinic", private=("complaint",))
    clinic: Mapped[str]
    patient_id: Mapped[UUID] = mapped_column(ForeignKey("patients.id"))
    complaint: Mapped[str]


class Reading(PrivacyKeyed):
    """Has a key of two columns, and many rows; what it says must not be NULL."""

    __tablename__ = "readings"
    __policy__ = Policy(
        Personal("patient", erase="blank", because="research"),
        private=("note", "raw", "nurse"),
        plain=("value",),
    )
    patient: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str]
    raw: Mapped[dict[str, Any]] = mapped_column(JSON)
    nurse: Mapped[str | None]
    value: Mapped[int]


class Letter(PrivacyBase):
    __tablename__ = "letters"
    __policy__ = Policy(Mentions("body", "text"), private=("body", "text"))
    body: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    text: Mapped[str | None]


@pytest.fixture
async def clinic(database_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=PrivacyBase.metadata) as hold:
        yield hold


TWO_BACKENDS = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@TWO_BACKENDS
async def test_many_rows_of_any_kind_go_and_those_of_others_stay(clinic: Holdfast) -> None:
    ada, bob = Patient(name="Ada", mail="Ada@Example.com"), Patient(name="Bob", mail=None)
    async with clinic.unit(tenant=ALL) as unit:
        unit.add(ada, bob)
        await unit.flush()
        visits = [Visit(clinic=f"c{n % 2}", patient_id=one.id, complaint="cough") for one in (ada, bob) for n in (1, 2)]
        unit.add(*visits)
        await unit[Reading].add_many(
            [
                {"patient": str(one.id), "number": n, "note": "n", "raw": {"n": 1}, "nurse": "Eve", "value": n}
                for one in (ada, bob)
                for n in range(1_100)
            ]
        )
        unit.add(
            Letter(body={"to": ["x", {"mail": "ada@example.com "}]}),
            Letter(text=json.dumps({"patient": str(ada.id).upper()})),
            Letter(text=ada.id.hex),
            Letter(body={"to": "not ada@example.com, but another"}, text="ada"),
        )
        await unit[Visit].delete(visits[0].id)
    erasure = await clinic.privacy.erase(ada.id)
    key = {"holdfast_subject_keys": 1}
    assert erasure.erased == {"letters": 3, "readings": 1_100, "patient_visits": 2, "patients": 1, **key}
    async with clinic.read(tenant=ALL) as unit:
        assert (await unit.execute(select(Patient.name))).scalars().all() == ["Bob"]
        assert await unit[Visit].count(unit[Visit].query().with_deleted()) == 2
        readings = (await unit.execute(select(Reading).order_by(Reading.patient, Reading.number))).scalars().all()
        his = [row for row in readings if row.patient == str(ada.id)]
        assert {(row.note, str(row.raw), row.nurse) for row in his} == {("", "{}", None)}
        assert [row.value for row in his] == list(range(1_100))
        assert {(row.note, row.nurse) for row in readings if row.patient == str(bob.id)} == {("n", "Eve")}
        kept = [(row.body, row.text) for row in (await unit.execute(select(Letter))).scalars() if row.body or row.text]
        assert kept == [({"to": "not ada@example.com, but another"}, "ada")]
    # What is blank already is not written again.
    assert (await clinic.privacy.erase(ada.id)).erased == erasure.erased


def test_every_model_of_ours_says_what_its_columns_are() -> None:
    [found] = examine_privacy([*models_of(accounts.metadata), *models_of(agents.metadata)])
    assert found.state == "ok"
    assert sorts_of(accounts.User) == {
        "id": "key",
        **dict.fromkeys(("external_id", "email", "first_name", "last_name", "address"), "private"),
        **dict.fromkeys(("chain_id", "tier", "last_login_at", "is_active", "synced_at", "billed_at"), "plain"),
        "stripe_customer_id": "private",
        "created_at": "plain",
        "updated_at": "plain",
    }
    assert sorts_of(accounts.Session)["lookup"] == "secret"


def test_what_is_left_unsaid_is_found() -> None:
    class Loose(Model):
        __abstract__ = True
        metadata = MetaData()

    class Owner(Loose):
        __tablename__ = "owners"
        __policy__ = Policy(Personal("id"), private=("name",))
        name: Mapped[str]
        phone: Mapped[str]

    class Pet(Loose):
        __tablename__ = "pets"
        __policy__ = Policy(private=("chip",), plain=("kind",))
        owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
        kind: Mapped[str]
        chip: Mapped[str]

    class Log(PrivacyKeyed):
        __tablename__ = "owner_logs"
        metadata = Loose.metadata
        __policy__ = Policy(Personal("owner"), AppendOnly())
        owner: Mapped[str] = mapped_column(primary_key=True)

    found = [(finding.check, finding.detail, finding.do) for finding in examine_privacy([Owner, Pet, Log])]
    assert [check for check, _, _ in found] == ["classification", "subject", "erasure", "erasure"]
    assert "owners.phone: nobody said" in found[0][1]
    assert "pets.chip is private, and nobody said whose" in found[1][1]
    assert "owner_logs" in found[2][1]
    assert 'erase="keep"' in str(found[2][2])
    assert "pets (owner_id) refers to owners" in found[3][1]


def test_references_that_would_hold_an_erasure_up_or_take_along_what_stays_are_found() -> None:
    class Tied(Model):
        __abstract__ = True
        metadata = MetaData()

    class Author(Tied):
        __tablename__ = "authors"
        __policy__ = Policy(Personal("id"))

    class Comment(Tied):
        __tablename__ = "comments"
        __policy__ = Policy(Personal("author_id"))
        author_id: Mapped[UUID] = mapped_column(ForeignKey("authors.id"))
        parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("comments.id"))

    class Invoice(Tied):
        __tablename__ = "invoices"
        __policy__ = Policy(Personal("author_id", erase="keep", because="tax law"))
        author_id: Mapped[UUID] = mapped_column(ForeignKey("authors.id", ondelete="CASCADE"))

    class Badge(Tied):
        __tablename__ = "badges"
        author_id: Mapped[UUID] = mapped_column(ForeignKey("authors.id", ondelete="SET NULL"))

    class Diary(Tied):
        __tablename__ = "diaries"
        __policy__ = Policy(Personal("author_id"), Audited(), private=("day",))
        author_id: Mapped[UUID] = mapped_column(ForeignKey("authors.id", ondelete="CASCADE"))
        day: Mapped[str]

    class Like(Tied):
        __tablename__ = "likes"
        __policy__ = Policy(AppendOnly())
        author_id: Mapped[UUID | None] = mapped_column(ForeignKey("authors.id", ondelete="SET NULL"))

    found = [finding.detail for finding in examine_privacy([Author, Comment, Invoice, Badge, Diary, Like])]
    assert [detail.partition(" ")[0] for detail in found] == ["comments", "invoices", "badges", "likes", "diaries"]
    for detail, told in zip(
        found,
        ("(parent_id) refers to comments", "is to stay", "author_id may not be NULL", "AppendOnly", "is Audited"),
        strict=True,
    ):
        assert told in detail


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (lambda: Policy(Personal("nobody")), "names the column 'nobody'"),
        (lambda: Policy(Personal("id", marks=("nobody",))), "names the column 'nobody'"),
        (lambda: Policy(Personal("at")), "the key of a person: a UUID, text or number"),
        (lambda: Policy(Personal("id"), Personal("id")), "Personal twice"),
        (lambda: Policy(Personal("id", erase="forget")), "one of delete, blank, keep"),  # type: ignore[arg-type]
        (lambda: Policy(Personal("id", erase="keep")), "wants because"),
        (lambda: Policy(Personal("id", erase="blank", because=" ")), "wants because"),
        (lambda: Policy(Personal("id", marks="id")), "takes several columns"),  # type: ignore[arg-type]
        (
            lambda: Policy(Personal("id", erase="blank", because="x"), private=("count",)),
            "nothing of its type is empty",
        ),
        (lambda: Policy(Personal("id", erase="blank", because="x"), private=("code",)), "must be unique"),
        (lambda: Policy(Personal("id", erase="blank", because="x"), private=("pair",)), "must be unique"),
        (lambda: Policy(Personal("id", erase="blank", because="x"), secret=("count",)), "of its type is empty"),
        (lambda: Policy(Mentions()), "takes the columns"),
        (lambda: Policy(Mentions("nobody")), "names the column 'nobody'"),
        (lambda: Policy(plain=("nobody",)), "names the column 'nobody'"),
        (lambda: Policy(plain=("code",), private=("code",)), "which is private or secret"),
        (lambda: Policy(plain="code"), r"plain=\('code',\)"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(declared: Any, told: str) -> None:
    class Apart(Model):
        __abstract__ = True
        metadata = MetaData()

    with pytest.raises(ModelError, match=told):

        class Odd(Apart):
            __tablename__ = "odd"
            __policy__ = declared()
            at: Mapped[float]
            count: Mapped[int]
            code: Mapped[str] = mapped_column(unique=True)
            pair: Mapped[str]
            __table_args__ = (UniqueConstraint("at", "pair"),)


@TWO_BACKENDS
async def test_a_row_that_holds_on_to_a_person_fails_the_erasure_and_says_so(database_url: str) -> None:
    class Held(Model):
        __abstract__ = True
        metadata = MetaData()

    class Tenant(Held):
        __tablename__ = "lodgers"
        __policy__ = Policy(Personal("id"), private=("name",))
        name: Mapped[str]

    class Lease(Held):
        __tablename__ = "lodger_leases"
        lodger_id: Mapped[UUID] = mapped_column(ForeignKey("lodgers.id"))

    async with await Holdfast.open(settings=settings_for(database_url), metadata=Held.metadata) as hold:
        async with hold.unit() as unit:
            unit.add(ada := Tenant(name="Ada"))
            await unit.flush()
            unit.add(lease := Lease(lodger_id=ada.id))
        for failed in (await hold.privacy.erase(ada.id), *await hold.privacy.resume()):
            assert failed.state == "asked"
            assert re.match(r"(?i)rows: .*(foreign key|refer)", failed.failure or "")
        async with hold.unit() as unit:
            await unit[Lease].delete(lease.id)
        [done] = await hold.privacy.resume()
        assert (done.state, done.failure, done.erased) == ("erased", None, {"lodgers": 1, "holdfast_subject_keys": 1})


words = st.text(max_size=20)
spelled = st.text(alphabet="abcXYZ019@. -", min_size=6, max_size=20).filter(lambda text: is_mark(text))
documents = st.recursive(
    st.none() | st.integers() | words | spelled,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(mark=spelled, document=documents)
def test_a_mark_is_found_wherever_it_is_and_nothing_else_is_touched(mark: str, document: Any) -> None:
    marks = Marks("salt")
    marks.add(mark)
    assert mark in marks
    assert marks.among([1, {"a": [document, {"deep": mark}]}])
    assert not marks.among({mark: None})  # names of members are everybody's
    left = marks.without([document, mark], "-")
    assert not marks.among(left)
    if not marks.among(document):
        assert left == [document, "-"]
    # Only hashes are kept, and by them it is found again; under another salt they are others.
    assert Marks("salt", marks.hashes).among(mark)
    assert not Marks("other", marks.hashes).among(mark)
    assert mark.strip().lower() not in "".join(marks.hashes)


def test_what_tells_nobody_from_others_is_no_mark() -> None:
    marks = Marks("salt")
    for value in (None, "", "a1", "  a1 ", "1" * 2_000, "object", "not known", "n/a", 7):
        marks.add(value)
    assert marks.hashes == []
    marks.add(key := uuid4())
    assert {str(key) in marks, str(key).upper() in marks, key.hex in marks, f" {key} " in marks} == {True}
    assert f"{key}x" not in marks
    nested: Any = str(key)
    for _ in range(500):
        nested = [nested]
    assert not marks.among(nested)  # too deep to be looked at, and no error
    assert marks.without(nested, "-") == nested


async def test_what_a_module_declares_every_data_layer_asks(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "declared", {})
    monkeypatch.setattr(privacy, "declared", places.declared)
    asked: list[str] = []

    @erases("by post")
    async def by_post(who: Forgotten) -> Counter[str]:
        asked.append(who.subject)
        return Counter({"letters on paper": 2})

    assert erases("by post")(by_post) is by_post  # its module was imported again
    with pytest.raises(ConfigurationError, match="an eraser 'by post' already"):
        erases("by post")(lambda who: by_post(who))
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=PrivacyBase.metadata) as hold:
        async with hold.unit(tenant=ALL) as unit:
            unit.add(ada := Patient(name="Ada", mail=None))
        assert (await hold.privacy.erase(ada.id)).erased["letters on paper"] == 2
        assert asked == [str(ada.id)]


@pytest.mark.parametrize("key", ["1_0", " 10", "+10", "010", "\u0661\u0660", "10.0", "0xa"])
async def test_a_number_is_written_in_one_way_only(sqlite_url: str, key: str) -> None:
    class Numbered(Model):
        __abstract__ = True
        metadata = MetaData()

    class Member(Numbered):
        __tablename__ = "numbered_members"
        __policy__ = Policy(Personal("number"), private=("name",))
        number: Mapped[int]
        name: Mapped[str]

    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Numbered.metadata) as hold:
        async with hold.unit() as unit:
            unit.add(Member(number=10, name="Ada"))
        with pytest.raises(NotFound):
            await hold.privacy.erase(key)
        assert (await hold.privacy.erase(10)).erased["numbered_members"] == 1
