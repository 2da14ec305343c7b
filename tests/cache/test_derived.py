"""What is made of kept values stands as long as they do, and is kept no longer."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Holdfast
from holdfast.cache.derived import Derived, Source
from tests.cache.loans import Loan


class Value(msgspec.Struct, frozen=True, weakref=True):
    number: int


class Kept:
    """A cache that gives what it is told to."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}

    def peek(self, key: str, default: Any = None, bound: float = 0.0) -> Any:
        return self.values.get(key, default)


class Careless(Derived[Any]):
    """Gives what was made without a look at what it was made of."""

    def get(self, key: Any) -> Any:
        found = self._kept.get(key)
        return None if found is None else found[0]


NAMES = st.sampled_from("ab")
STEPS = st.lists(st.tuples(st.sampled_from(("change", "drop", "make")), NAMES, st.integers(0, 1)), max_size=30)


def check(kind: type[Derived[Any]], steps: list[tuple[str, str, int]]) -> None:
    """Whatever happens to values, a sum of two of them is that of those that are kept now, or is not found."""
    kept, others = Kept(), []  # a value that is not given any more may be there yet
    derived = kind(kept.peek)
    for step, name, number in steps:
        if step == "change":
            kept.values[name] = Value(number)
            others.append(kept.values[name])
        elif step == "drop":
            kept.values.pop(name, None)
        else:
            values = [kept.values.get(one) for one in "ab"]
            made_of = [None if one is None else Source(key, one, 1.0) for key, one in zip("ab", values, strict=True)]
            derived.keep("sum", tuple(one and one.number for one in values), made_of)
            del values, made_of
        found = derived.get("sum")
        now = tuple(kept.values[one].number if one in kept.values else None for one in "ab")
        assert found is None or found == now
        if found is None and step == "make":
            assert None in now


@given(STEPS)
def test_it_is_what_the_kept_values_make(steps: list[tuple[str, str, int]]) -> None:
    check(Derived, steps)


def test_one_that_does_not_look_is_found_out() -> None:
    steps = [("change", "a", 0), ("change", "b", 0), ("make", "a", 0), ("change", "a", 1)]
    with pytest.raises(AssertionError):
        check(Careless, steps)


def test_it_goes_with_a_value_of_it() -> None:
    kept = Kept()
    derived: Derived[str] = Derived(kept.peek)
    kept.values = {"a": Value(1), "b": Value(2)}
    derived.keep("both", "12", [Source(name, value, 1.0) for name, value in kept.values.items()])
    older = kept.values.pop("a")
    kept.values["a"] = Value(3)
    derived.keep("both", "32", [Source(name, value, 1.0) for name, value in kept.values.items()])
    del older
    gc.collect()
    assert (derived.get("both"), len(derived)) == ("32", 1)  # the end of the older one is not its end
    del kept.values["b"]
    gc.collect()
    assert len(derived) == 0


async def test_a_row_is_told_with_what_is_kept_of_it(hold: Holdfast) -> None:
    async with hold.unit() as unit:
        loan = await unit[Loan].add(Loan(reader="ada", title="Algae"))
    rows = hold.cache[Loan]
    row, source = await rows.traced(loan.id)
    assert row is not None
    assert source is not None
    assert row.title == "Algae"
    derived: Derived[str] = Derived(hold.cache.peek)
    derived.keep("it", "ALGAE", [source])
    async with hold.unit() as unit:
        await unit[Loan].update(loan.id, title="Barnacles")
        within, none = await rows.traced(loan.id)
        assert within is not None
        assert (within.title, none) == ("Barnacles", None)  # of a unit's own nothing is kept
    assert derived.get("it") is None
    again, _ = await rows.traced(loan.id)
    assert again is not None
    assert again.title == "Barnacles"
