"""Chains of the audit trail, by themselves: whatever is done to one is found, and the first bad record is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.guard.audit import AuditKeys, Checkpoint, Fault, Head, Record
from holdfast.guard.audit.chain import Verification, sealed
from holdfast.guard.audit.export import line_of, records_in
from holdfast.guard.audit.record import canonical
from holdfast.guard.audit.verify import verify_exported
from holdfast.secrets import new_key

KEYS = AuditKeys.configured(f"a1:{'A' * 43}=", production=True)
OTHERS = AuditKeys.configured(f"a1:{'B' * 43}=", production=True)
TENANTS = ("", "acme", "b")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 600_700, dt.UTC)

CONTENTS = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from(TENANTS),
        "id": st.uuids(),
        "created_at": st.integers(0, 10**15).map(lambda us: NOW + dt.timedelta(microseconds=us)),
        "action": TEXTS,
        "outcome": st.sampled_from(("allowed", "denied", "failed")),
        "changes": st.none() | st.just('{"a": [null,1.0]}') | TEXTS,
        **{
            name: st.none() | TEXTS
            for name in (
                "reason",
                "actor",
                "impersonator",
                "target_type",
                "target_id",
                "request_id",
                "subject",
            )
        },
        "sealed": st.none() | st.binary(max_size=8),
    }
)


def chained(contents: Iterable[dict[str, Any]], heads: dict[str, Head] | None = None) -> list[Record]:
    """Records with these contents, each at the end of its chain; `heads` are where the chains end, and are moved."""
    heads = {} if heads is None else heads
    made = []
    for content in contents:
        record = sealed(KEYS, Record(**content, seq=0, key_id="", mac=b""), heads.get(content["tenant"], Head()))
        heads[record.tenant] = Head(record.seq, record.mac)
        made.append(record)
    return made


def first_faults(
    records: Iterable[Record], heads: dict[str, Head], known: dict[str, Head] | None = None
) -> dict[str, Fault]:
    """What is wrong first in each chain, as the database would be read."""
    found = {}
    for tenant in {*(record.tenant for record in records), *heads, *(known or {})}:
        chain = Verification(KEYS, tenant, known=(known or {}).get(tenant))
        mine = sorted((record for record in records if record.tenant == tenant), key=lambda record: record.seq)
        fault = next((fault for record in mine if (fault := chain.take(record))), None)
        fault = fault or chain.end(heads.get(tenant, Head()))
        if fault is not None:
            found[tenant] = fault
    return found


@st.composite
def chains(draw: st.DrawFn, least: int = 1) -> tuple[list[Record], dict[str, Head]]:
    heads: dict[str, Head] = {}
    return chained(draw(st.lists(CONTENTS, min_size=least, max_size=12)), heads), heads


@settings(max_examples=40)
@given(chains())
def test_what_nobody_was_at_is_whole(made: tuple[list[Record], dict[str, Head]]) -> None:
    records, heads = made
    assert first_faults(records, heads, known=heads) == {}
    assert not verify_exported(sorted(records, key=lambda record: record.tenant), KEYS).faults


def changed(value: Any, draw: st.DrawFn) -> Any:
    """Another value of the same kind: one byte or letter of it is another one, or it is longer, or there, or not."""
    if value is None:
        return draw(st.sampled_from(("", "x")))
    if isinstance(value, int):
        return value + draw(st.sampled_from((-1, 1, 256)))
    if isinstance(value, UUID):
        return UUID(int=value.int ^ 1 << draw(st.integers(0, 127)))
    if isinstance(value, dt.datetime):
        return value + dt.timedelta(microseconds=draw(st.sampled_from((-1, 1, 3_600_000_000))))
    nothing = value[:0]
    options = [value + (b"\0" if isinstance(value, bytes) else "\0"), None]
    if value:
        place = draw(st.integers(0, len(value) - 1))
        other = bytes([value[place] ^ 1]) if isinstance(value, bytes) else chr((ord(value[place]) + 1) % 0xD800)
        options += [value[:place] + other + value[place + 1 :], value[:place] + value[place + 1 :], nothing]
    return draw(st.sampled_from([option for option in options if option != value]))


@settings(max_examples=25)
@given(st.data(), chains())
@pytest.mark.parametrize("field", Record.__struct_fields__)
def test_every_edit_of_every_field_is_found(
    field: str, data: st.DataObject, made: tuple[list[Record], dict[str, Head]]
) -> None:
    records, heads = made
    place = data.draw(st.integers(0, len(records) - 1))
    was = records[place]
    draw: Any = data.draw
    value = changed(getattr(was, field), draw)
    if value is None and field in ("tenant", "action", "outcome", "key_id", "mac"):
        value = b"?" if field == "mac" else "?"
    if field == "mac" and not isinstance(value, bytes):
        value = b"?"
    edited = [*records[:place], msgspec.structs.replace(was, **{field: value}), *records[place + 1 :]]
    found = first_faults(edited, heads)
    # A record that is put to the place of another is out of order behind it.
    expected = {was.seq, value, value + 1} if field == "seq" else {was.seq}
    assert found[was.tenant].seq in expected, (field, value)


@settings(max_examples=40)
@given(st.data(), chains(2))
def test_what_is_removed_is_missed(data: st.DataObject, made: tuple[list[Record], dict[str, Head]]) -> None:
    records, heads = made
    gone = data.draw(st.sets(st.integers(0, len(records) - 1), min_size=1))
    left = [record for place, record in enumerate(records) if place not in gone]
    found = first_faults(left, heads)
    for tenant in {records[place].tenant for place in gone}:
        first = min(records[place].seq for place in gone if records[place].tenant == tenant)
        assert found[tenant].seq == first
        assert found[tenant].what in ("missing", "cut off")


@settings(max_examples=40)
@given(st.data(), chains(2))
def test_two_that_change_places_are_found(data: st.DataObject, made: tuple[list[Record], dict[str, Head]]) -> None:
    records, heads = made
    one, two = data.draw(st.lists(st.integers(0, len(records) - 1), min_size=2, max_size=2, unique=True))
    first, second = records[one], records[two]
    swapped = list(records)
    # Within a chain, and between the chains of two tenants.
    swapped[one] = msgspec.structs.replace(second, tenant=first.tenant, seq=first.seq)
    swapped[two] = msgspec.structs.replace(first, tenant=second.tenant, seq=second.seq)
    found = first_faults(swapped, heads)
    if first.tenant == second.tenant:
        assert found[first.tenant].seq == min(first.seq, second.seq)
    else:
        assert (found[first.tenant].seq, found[second.tenant].seq) == (first.seq, second.seq)


@settings(max_examples=40)
@given(st.data(), chains(), CONTENTS)
def test_what_is_put_in_between_is_found(
    data: st.DataObject, made: tuple[list[Record], dict[str, Head]], content: dict[str, Any]
) -> None:
    records, heads = made
    before = data.draw(st.sampled_from(records))
    # The forger has the code and the database, and keys of his own.
    forged = msgspec.structs.replace(before, **{**content, "tenant": before.tenant})
    forged = msgspec.structs.replace(forged, mac=OTHERS.seal(canonical(forged, b"")))
    moved = [
        msgspec.structs.replace(record, seq=record.seq + 1)
        if record.tenant == before.tenant and record.seq >= before.seq
        else record
        for record in records
    ]
    assert first_faults([*moved, forged], heads)[before.tenant].seq == before.seq
    # At the end, behind the head.
    end = heads[before.tenant]
    last = msgspec.structs.replace(forged, seq=end.seq + 1)
    last = msgspec.structs.replace(last, mac=OTHERS.seal(canonical(last, end.mac)))
    assert first_faults([*records, last], heads)[before.tenant].seq == end.seq + 1


@settings(max_examples=40)
@given(st.data(), chains(), st.lists(CONTENTS, max_size=4))
def test_an_end_that_is_cut_off_is_found_by_the_checkpoint(
    data: st.DataObject, made: tuple[list[Record], dict[str, Head]], more: list[dict[str, Any]]
) -> None:
    records, heads = made
    known = Checkpoint.read(Checkpoint(NOW, heads).written(KEYS), KEYS).heads
    tenant = data.draw(st.sampled_from(sorted(heads)))
    left = data.draw(st.integers(0, heads[tenant].seq - 1))
    cut = [record for record in records if record.tenant != tenant or record.seq <= left]
    assert first_faults(cut, heads)[tenant].seq == left + 1  # who forgets the head is found anyway
    ends = [Head(record.seq, record.mac) for record in cut if record.tenant == tenant]
    back = {**heads, tenant: ends[-1] if ends else Head()}
    assert first_faults(cut, back) == {}  # nothing in the database tells
    assert first_faults(cut, back, known)[tenant].what == "cut off"
    # The trail goes on, sealed with the true key, and may grow beyond where it was.
    grown = [*cut, *chained(({**content, "tenant": tenant} for content in more), back)]
    fault = first_faults(grown, back, known)[tenant]
    assert fault.what in ("cut off", "other than checkpoint")
    assert left < fault.seq <= heads[tenant].seq


@settings(max_examples=40)
@given(chains(), st.data())
def test_what_was_exported_is_read_back_and_verified(
    made: tuple[list[Record], dict[str, Head]], data: st.DataObject
) -> None:
    records = [
        record
        for record in sorted(made[0], key=lambda record: (record.tenant, record.seq))
        if record.changes is None or _is_json(record.changes)
    ]
    lines = [msgspec.json.encode(line_of(record)) for record in records]
    assert list(records_in(lines)) == records


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return text == text.strip()  # blanks around it are no part of the value


def test_a_letter_that_moves_to_the_next_field_is_an_edit() -> None:
    one = Record(tenant="a", seq=1, id=UUID(int=1), created_at=NOW, action="ab", outcome="c", key_id="k", mac=b"")
    two = msgspec.structs.replace(one, action="a", outcome="bc")
    three = msgspec.structs.replace(one, reason="")
    assert len({canonical(record, b"") for record in (one, two, three)}) == 3
    assert canonical(one, b"x") != canonical(one, b"")


def test_an_older_key_verifies_and_the_first_one_seals() -> None:
    old, new = new_key("a1"), new_key("a2")
    before, both = AuditKeys.configured(old, production=True), AuditKeys.configured(f"{new},{old}", production=True)
    blank = Record(tenant="", seq=0, id=UUID(int=1), created_at=NOW, action="x", outcome="allowed", key_id="", mac=b"")
    first = sealed(before, blank, Head())
    second = sealed(both, blank, Head(first.seq, first.mac))
    assert (first.key_id, second.key_id) == ("a1", "a2")
    assert not verify_exported([first, second], both).faults
    [fault] = verify_exported([first, second], AuditKeys.configured(new, production=True)).faults
    assert fault.what == "unknown key"
    assert "'a1'" in fault.told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("secret", "key 1 of HOLDFAST_AUDIT_KEYS is not id:base64"),
        ("a1:c2VjcmV0", "'a1' of HOLDFAST_AUDIT_KEYS is not 32 bytes or more"),
        ("a1:" + "A" * 43 + "=,a1:" + "B" * 43 + "=", "'a1' twice"),
        ("", "holdfast audit new-key"),
    ],
)
def test_keys_that_cannot_be_are_told_without_the_key(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        AuditKeys.configured(text, production=True)
    assert "c2VjcmV0" not in str(refused.value)
    assert "AAAA" not in repr(KEYS)


@settings(max_examples=40)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_checkpoint_with_any_other_byte_is_refused(place: int, other: int) -> None:
    content = bytearray(Checkpoint(NOW, {"acme": Head(7, b"m" * 32), "": Head(1, b"x" * 32)}).written(KEYS))
    place %= len(content) - 1  # the last one ends the line
    content[place] ^= other
    if bytes(content).lower() != Checkpoint(NOW, {}).written(KEYS).lower():
        with pytest.raises((InvalidValue, ConfigurationError)):
            Checkpoint.read(bytes(content), KEYS)


def test_a_checkpoint_of_others_is_refused() -> None:
    content = Checkpoint(NOW, {"acme": Head(7, b"m" * 32)}).written(OTHERS)
    with pytest.raises(InvalidValue, match="not as it was signed"):
        Checkpoint.read(content, KEYS)
    for nothing in (b"", b"{}\n{}\n", b"\xff\n\xff"):
        with pytest.raises(InvalidValue, match="no checkpoint"):
            Checkpoint.read(nothing, KEYS)
