"""The ledger of consent says who agrees to what, to which text, and forgets nothing that was said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import Consent
from holdfast.errors import ConfigurationError, Conflict, InvalidValue, NotFound, StoreError, WrongTenant
from tests.backends import settings_for

TEXT = "We write to you once a month."


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=accounts.metadata) as hold:
        yield hold


said = st.tuples(st.sampled_from(("give", "withdraw")), st.sampled_from(("news", "research")), st.sampled_from("ab"))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(said, max_size=8))
async def test_what_was_said_last_holds_and_nothing_is_forgotten(
    hold: Holdfast, steps: list[tuple[str, str, str]]
) -> None:
    ada, agreed, count = uuid4(), dict[str, str](), 0
    async with hold.unit(tenant=ALL, actor=str(ada)) as unit:
        for what, purpose, text in steps:
            if what == "give":
                count += agreed.get(purpose) != text
                await hold.consents.give(unit, ada, purpose, text=text, source="web")
                agreed[purpose] = text
            elif purpose in agreed:
                await hold.consents.withdraw(unit, ada, purpose, source="app")
                count += 1
                del agreed[purpose]
            else:
                with pytest.raises(NotFound, match=f"nothing called '{purpose}'"):
                    await hold.consents.withdraw(unit, ada, purpose, source="app")
    async with hold.read(tenant=ALL) as unit:
        assert set(await hold.consents.standing(unit, ada)) == set(agreed)
        for purpose in ("news", "research"):
            assert await hold.consents.stands(unit, ada, purpose) is (purpose in agreed)
            assert await hold.consents.stands(unit, ada, purpose, text="a") is (agreed.get(purpose) == "a")
        assert len(await hold.consents.history(unit, ada)) == count
        assert await hold.consents.history(unit, uuid4()) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"purpose": ""}, "purpose of a consent is 1 to 100"),
        ({"purpose": "a\nb"}, "purpose of a consent"),
        ({"subject": "x" * 256}, "subject of a consent is 1 to 255"),
        ({"source": ""}, "source of a consent"),
        ({"text": "  "}, "given to a text"),
        ({"basis": "because"}, "not 'because'"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_name(hold: Holdfast, changed: dict[str, str], told: str) -> None:
    asked = {"subject": "ada", "purpose": "news", "text": TEXT, "source": "web"} | changed
    with pytest.raises(InvalidValue, match=told):
        async with hold.unit(tenant=ALL) as unit:
            await hold.consents.give(unit, asked.pop("subject"), asked.pop("purpose"), **asked)  # type: ignore[arg-type]


async def test_a_row_is_neither_changed_nor_deleted_nor_any_tenants_business(hold: Holdfast) -> None:
    async with hold.unit(tenant=ALL) as unit:
        row = await hold.consents.give(unit, "ada", "news", text=TEXT, source="web", basis="contract")
        assert (row.number, row.basis, len(row.text_hash)) == (1, "contract", 64)
    for statement in ("UPDATE consents SET given = false", "DELETE FROM consents"):
        with pytest.raises(StoreError, match="only ever added"):
            async with hold.unit(tenant=ALL) as unit:
                await unit.execute(statement)
    with pytest.raises(WrongTenant):
        async with hold.unit(tenant="acme") as unit:
            await hold.consents.give(unit, "ada", "news", text="another", source="web")


async def test_two_who_say_something_at_once_are_told_apart(postgres_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(postgres_url), metadata=accounts.metadata) as hold:
        with pytest.raises(Conflict):
            async with hold.unit(tenant=ALL) as unit:
                await hold.consents.standing(unit, "ada")
                async with hold.store.connect(write=True) as other:
                    await other.run_sync(
                        lambda connection: connection.execute(
                            Consent.__table__.insert().values(  # type: ignore[attr-defined]
                                subject="ada",
                                purpose="news",
                                number=1,
                                given=True,
                                basis="consent",
                                text_hash="0" * 64,
                                source="web",
                            )
                        )
                    )
                unit.add(Consent(subject="ada", purpose="news", number=1, given=False, basis="consent", source="web"))


async def test_who_keeps_no_ledger_is_told_what_to_do(sqlite_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(sqlite_url)) as hold:
        with pytest.raises(ConfigurationError, match="ConsentColumns"):
            _ = hold.consents
