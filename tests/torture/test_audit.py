"""The torture of the audit trail: its checker's rules, a short run that holds, and planted faults that are caught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torture import audit
from torture.audit_check import SAID, Deed, Step, check, life
from torture.harness import Options

DEEDS = [Deed("t1", "a", 3, False), Deed("t1", "b", 2, True), Deed("t2", "c", 1, False)]
SAYINGS = [("t2", "s")]
WHOLE = [*((deed.tenant, deed.id, step) for deed in DEEDS for step in life(deed)), ("t2", "s", SAID)]


def test_what_is_on_record_once_and_in_order_is_good() -> None:
    assert check(DEEDS, SAYINGS, WHOLE) == check([], [], [])
    assert life(DEEDS[1]) == [Step("insert", None, 1), Step("update", 1, 2), Step("delete", 2, None)]


@given(st.data())
def test_every_single_fault_is_told_for_what_it_is(data: st.DataObject) -> None:
    records = list(WHOLE)
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    tenant, what, step = records[place]
    fault = data.draw(st.sampled_from(["lost", "twice", "phantom", "disordered"]))
    if fault == "lost":
        del records[place]
    elif fault == "twice":
        records.insert(data.draw(st.integers(0, len(records))), records[place])
    elif fault == "phantom":
        other = [("t9", what, step), (tenant, "x", step), (tenant, what, Step("update", 7, 8))]
        records.append(data.draw(st.sampled_from(other)))
    else:
        records[0], records[1] = records[1], records[0]
    verdict = check(DEEDS, SAYINGS, records)
    assert {name for name in audit.VIOLATIONS if getattr(verdict, name, [])} == {fault}


async def test_whoever_seals_is_killed_and_every_write_is_on_record_once() -> None:
    result = await audit.run(Options(seconds=2, seed=1))
    assert not result.broken, result.details
    assert result.figures["records"] > result.figures["deeds"] > 50
    assert result.figures["sealed amid it"]
    assert result.figures["leases"] != 1


@pytest.mark.parametrize(("fault", "violation"), [("apart", "twice"), ("cut", "broken"), ("keyless", "unreadable")])
async def test_a_planted_fault_is_caught(fault: str, violation: str) -> None:
    result = await audit.run(Options(seconds=1, seed=1, plant=fault))
    assert result.violations[violation] > 0, result.violations
