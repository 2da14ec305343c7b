"""Events that are declared: their fields, the tags that follow from them, and what cannot be one."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal import Change, Event, Journal
from holdfast.journal.events import DEEPEST, LARGEST, declared
from holdfast.store import Store
from tests.journal.conftest import Reader


class Side(Enum):
    BUY = "buy"
    SELL = "sell"


class Fill(msgspec.Struct, frozen=True):
    price: Decimal
    size: int


class OrderFilled(
    Event,
    topic="order_filled",
    tags=("order:{order}", "market:{symbol}:{side}", "referrer:{referrer}"),
    key="{order}",
):
    order: UUID
    symbol: str
    side: Side
    at: dt.datetime
    fills: tuple[Fill, ...] = ()
    referrer: str | None = None


class Anything(Event, topic="anything", tags=("anything",)):
    data: Any = None


FILLED = OrderFilled(
    order=UUID(int=7),
    symbol="SOL: Ünï 50%",
    side=Side.SELL,
    at=dt.datetime(2024, 2, 29, 18, 14, 59, 5, tzinfo=dt.UTC),
    fills=(Fill(price=Decimal("170.50"), size=2**200),),
)


async def test_an_event_comes_back_as_it_was_with_the_tags_of_its_fields(store: Store, reader: Reader) -> None:
    async with store.unit(actor="ada", tenant="t1") as unit:
        await unit.emit(FILLED, tags=["another", f"order:{UUID(int=7)}"])
    [change] = await reader.changes()
    assert (change.op, change.table, change.key) == ("event", "order_filled", str(UUID(int=7)))
    assert (change.tenant, change.actor) == ("t1", "ada")
    assert change.new is not None
    assert change.new["tags"] == [f"order:{UUID(int=7)}", "market:SOL: Ünï 50%:sell", "another"]
    assert set(change.new) == {"tags", "data"}
    assert OrderFilled.of(change) == FILLED


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (OrderFilled(order="7", symbol="x", side=Side.BUY, at=FILLED.at), "UUID.*order"),  # type: ignore[arg-type]
        (OrderFilled(order=UUID(int=1), symbol=5, side=Side.BUY, at=FILLED.at), "`str`.*symbol"),  # type: ignore[arg-type]
        (Anything(data=float("nan")), "would come back as"),
        (Anything(data=(1, 2)), "would come back as"),
        (Anything(data=object()), "cannot be an event"),
        (Anything(data="x" * LARGEST), "65,5.. bytes, and may have 65,536"),
    ],
)
async def test_an_event_whose_fields_are_others_is_refused(store: Store, log: Journal, event: Event, says: str) -> None:
    async with store.unit() as unit:
        with pytest.raises(InvalidValue, match=says):
            await unit.emit(event)


async def test_data_have_a_size_and_a_depth(store: Store, reader: Reader) -> None:
    def nested(levels: int) -> Any:
        return [] if levels == 1 else [nested(levels - 1)]

    endless: list[Any] = []
    endless.append(endless)
    async with store.unit() as unit:
        await unit.emit("deep", data=nested(DEEPEST))
        await unit.emit("large", data="x" * (LARGEST - 2))
        with pytest.raises(InvalidValue, match="nested deeper than 32"):
            await unit.emit("deep", data=nested(DEEPEST + 1))
        with pytest.raises(InvalidValue, match="nested deeper than 32"):
            await unit.emit(Anything(data=nested(DEEPEST)))  # which is in an object
        with pytest.raises(InvalidValue, match="65,537 bytes"):
            await unit.emit("large", data="x" * (LARGEST - 1))
        with pytest.raises(InvalidValue, match="cannot be written as JSON"):
            await unit.emit("endless", data=endless)
        with pytest.raises(InvalidValue, match="in its fields"):
            await unit.emit(Anything(), data={"more": 1})
        with pytest.raises(InvalidValue, match="a topic or a declared event, not 5"):
            await unit.emit(5)
        with pytest.raises(InvalidValue, match="not texts"):
            await unit.emit("tagged", tags=[object()])  # type: ignore[list-item]
    assert [change.table for change in await reader.changes()] == ["deep", "large"]


def test_an_event_in_the_journal_may_be_older_than_its_class() -> None:
    def change(data: Any) -> Change:
        return Change(5, 1, "anything", "event", None, None, None, None, None, {"tags": [], "data": data}, None)

    assert Anything.of(change({"data": 1, "gone": 2})) == Anything(data=1)
    assert Anything.of(change({})) == Anything()
    with pytest.raises(InvalidValue, match=r"the event 5 in the journal is no OrderFilled: .*order"):
        OrderFilled.of(change({"symbol": "SOL"}))


def test_what_cannot_be_declared_is_told_in_the_line_of_the_class() -> None:
    with pytest.raises(ConfigurationError, match="A1 says no topic"):

        class A1(Event):
            pass

    with pytest.raises(ConfigurationError, match="A2: an event's topic must be a word of yours"):

        class A2(Event, topic="*"):
            pass

    with pytest.raises(ConfigurationError, match="names 'contract', which is no field; there are address"):

        class A3(Event, topic="a3", tags=("collection:{contract}",)):
            address: str

    with pytest.raises(ConfigurationError, match="is no template of fields"):

        class A4(Event, topic="a4", key="{address!r}"):
            address: str

    with pytest.raises(ConfigurationError, match=r"write \('users',\)"):

        class A5(Event, topic="a5", tags="users"):
            pass

    with pytest.raises(ConfigurationError, match="cannot be written as JSON"):

        class A6(Event, topic="a6"):
            what: Store

    with pytest.raises(ConfigurationError, match=r"the topic 'order_filled' is that of .*OrderFilled; give A7 another"):

        class A7(Event, topic="order_filled"):
            pass

    with pytest.raises(ConfigurationError, match="no field may be called 'topic'"):

        class A8(Event, topic="a8"):
            topic: str  # type: ignore[misc]

    assert declared.get("order_filled") is OrderFilled
    assert not {"a3", "a4", "a5", "a6", "a8"} & set(declared.topics())
    with pytest.raises(TypeError, match="symbol"):
        OrderFilled(order=UUID(int=1), side=Side.BUY, at=FILLED.at)  # type: ignore[call-arg]
