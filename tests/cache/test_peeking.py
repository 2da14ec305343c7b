"""A look into memory gives what the rule of freshness gives, whatever it remembers of earlier looks."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as some

from holdfast.cache import tags as tagging
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.freshness import Freshness
from holdfast.cache.marks import Marks
from holdfast.cache.memory import Memory
from holdfast.cache.peeking import peeking
from holdfast.store.current import newest_commit

TAGS = ("a", "b", "c")

_tags = some.lists(some.sampled_from(TAGS), unique=True, max_size=3)
_steps = some.one_of(
    some.tuples(some.just("keep"), some.sampled_from(("k", "l")), _tags),
    some.tuples(some.just("change"), some.integers(0, 3), _tags),
    some.tuples(some.just("everything"), some.integers(0, 3), some.just([])),
    some.tuples(some.just("begin"), some.integers(0, 3), some.just([])),
    some.tuples(some.just("replayed"), some.integers(0, 3), some.just([])),
    some.tuples(some.just("renew"), some.integers(0, 3), some.just([])),
)


@given(some.lists(_steps, max_size=40))
def test_what_is_remembered_of_a_look_never_decides_another_way(
    steps: list[tuple[str, int | str, list[str]]],
) -> None:
    freshness, memory = Freshness(Marks()), Memory(100)
    peek = peeking(memory, freshness)
    freshness.begin(1, 0)
    changes: dict[str, int] = {}  # when each tag changed last, in this life of the database
    kept: dict[str, tuple[Entry, list[str]]] = {}
    begun = 0
    for what, how, tags in steps:
        tick = freshness.tick + (how if isinstance(how, int) else 0)
        if what == "keep":
            entry = _entry(freshness, tags)
            memory.put(str(how), entry, boottime())
            kept[str(how)] = entry, tags
        elif what == "change":
            freshness.changed(tags, tick)
            changes |= {tag: max(tick, changes.get(tag, 0)) for tag in tags}
        elif what == "everything":
            freshness.everything_changed(tick)
        elif what == "begin":
            freshness.begin(freshness.epoch + 1, tick)
            changes, begun = {}, tick
        elif what == "replayed":
            freshness.replayed(max(0, begun - int(how)), begun)
        if what == "renew" or freshness.since == -math.inf:
            # What other tests of this process have committed in this thread is known.
            freshness.renewed(tick, boottime(), newest_commit())
        for key, (entry, carried) in kept.items():
            fresh = (
                entry.epoch == freshness.epoch
                and entry.as_of >= freshness.floor
                and all(changes.get(tag, 0) <= entry.as_of for tag in carried)
            )
            assert peek(key) == ("value" if fresh else None), (key, what)
            assert freshness.is_fresh(entry) is fresh


def _entry(freshness: Freshness, tags: list[str]) -> Entry:
    hashes = tuple(tagging.hashed(tag) for tag in tags)
    return Entry(
        value="value",
        epoch=freshness.epoch,
        as_of=freshness.tick,
        buckets=freshness.marks.buckets(hashes),
        hashes=hashes,
        began=0.0,
        max_staleness=math.inf,
        refresh_from=math.inf,
        expires=math.inf,
        kept=boottime() + 60.0,
        cost=0.0,
        weight=1,
    )
