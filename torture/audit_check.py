"""Whether what is on record is what was committed, each once and in its order: rules only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec


class Deed(NamedTuple):
    """What the database says of a deed: whose it is, which, how often it was written, and whether it is gone."""

    tenant: str
    id: str
    version: int
    gone: bool


class Step(NamedTuple):
    """Something that happened to a deed or a saying, as a record tells it."""

    action: str
    before: int | None = None
    after: int | None = None


SAID = Step("say")

Seen = tuple[str, str, Step]
"""A record: in whose chain, of what, what happened."""


class Verdict(msgspec.Struct):
    """What was wrong, a sentence each.

    Attributes:
        lost: committed, and on no record.
        twice: on record more often than it was committed.
        phantom: on record, and never committed.
        disordered: of one deed, in another order than it was committed.
    """

    lost: list[str] = []
    twice: list[str] = []
    phantom: list[str] = []
    disordered: list[str] = []


def life(deed: Deed) -> list[Step]:
    """All that was committed of a deed, in its order."""
    steps = [Step("insert", None, 1)]
    steps += [Step("update", version, version + 1) for version in range(1, deed.version)]
    return [*steps, Step("delete", deed.version, None)] if deed.gone else steps


def check(deeds: Iterable[Deed], sayings: Iterable[tuple[str, str]], records: Iterable[Seen]) -> Verdict:
    """Hold records, in the order of their chains, against what was committed.

    Args:
        sayings: whose they are, and which.
    """
    found = Verdict()
    expected = {(deed.tenant, deed.id): life(deed) for deed in deeds}
    expected |= {saying: [SAID] for saying in sayings}
    seen: dict[tuple[str, str], list[Step]] = defaultdict(list)
    for tenant, what, step in records:
        seen[tenant, what].append(step)
    for place in expected.keys() | seen.keys():
        wanted, there = expected.get(place, []), seen.get(place, [])
        if wanted == there:
            continue
        missing, more = Counter(wanted) - Counter(there), Counter(there) - Counter(wanted)
        name = f"{place[1]} of {place[0]}"
        found.lost += [f"{step} of {name}" for step in missing.elements()]
        found.twice += [f"{step} of {name}" for step in more.elements() if step in wanted]
        found.phantom += [f"{step} of {name}" for step in more.elements() if step not in wanted]
        if not missing and not more:
            found.disordered.append(f"{name}: {', '.join(map(str, there))}")
    return found
