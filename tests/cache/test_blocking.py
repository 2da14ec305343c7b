"""The cache without `await`: a hit is a plain call in the caller's thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast.cache import Key
from tests.backends import settings_for
from tests.cache.loans import Base, Loan


@pytest.fixture(params=("sqlite", "postgres"))
def hold(request: pytest.FixtureRequest) -> Any:
    settings = settings_for(request.getfixturevalue(f"{request.param}_url"))
    with Holdfast.blocking(settings=settings, metadata=Base.metadata) as hold:
        yield hold


def test_values_are_loaded_kept_and_ended(hold: Any) -> None:
    def load(load: Any) -> str:
        load.tags("loans")
        with hold.read() as unit:
            return f"loaded {load.key}, {unit[Loan].count()}"

    assert hold.cache.get_or_load("k", load) == "loaded k, 0"
    assert hold.cache.peek("k") == "loaded k, 0"
    hold.cache.invalidate("loans")
    assert hold.cache.peek("k") is None
    hold.cache.set("j", 5)
    assert hold.cache.get("j") == 5
    assert hold.cache.lookup("j", load).value == 5


def test_the_values_of_a_declared_key_are_found_by_its_parts(hold: Any) -> None:
    key = Key("library.blocking", "library:blocking:{reader}", tags=("reader:{reader}",), about="for blocking callers")

    def load(load: Any) -> str:
        return f"loaded {load.key}"

    loans = hold.cache[key]
    assert loans.get_or_load(load, "ann") == loans.peek(reader="ann") == "loaded library:blocking:ann"
    loans.set("by hand", reader="bob")
    with hold.unit() as unit:
        unit[Loan].add(Loan(reader="bob", title="Dune"))
    assert (loans.get("ann"), loans.get("bob")) == ("loaded library:blocking:ann", None)
    loans.delete("ann")
    assert loans.get("ann") is None


def test_a_hit_needs_no_event_loop(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hold.cache.set("k", 5)
    peek = hold.cache.peek
    monkeypatch.setattr(type(hold.cache._portal), "call", None)
    assert peek("k") == 5


def test_a_thread_sees_what_it_has_committed_and_leaves_the_cache_alone_while_it_writes(hold: Any) -> None:
    def load(load: Any) -> str:
        load.tags("loans")
        return "loaded"

    assert hold.cache.get_or_load("k", load) == "loaded"
    peek = hold.cache.peek
    with hold.unit() as unit:
        assert peek("k") == "loaded"
        unit[Loan].add(Loan(reader="ada", title="Dune"))
        assert peek("k") is None
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.append(peek("k")))
        thread.start()
        thread.join()
        assert seen == ["loaded"]
    assert peek("k") is None
    assert hold.cache.get("k") is None


def test_reads_of_a_block_are_counted_for_its_endpoint_hits_and_misses(hold: Any) -> None:
    with hold.cache.counted_as("GET /titles"):
        for _ in range(3):
            hold.cache.get_or_load("k", lambda load: "loaded")
    hold.cache.get_or_load("k", lambda load: "loaded")
    found = hold.cache.statistics.endpoints.total()["GET /titles"]
    assert (found.hits, found.misses) == (2, 1)


def test_rows_are_read_by_key(hold: Any) -> None:
    with hold.unit() as unit:
        key = unit[Loan].add(Loan(reader="ada", title="Dune")).id
    assert hold.cache[Loan].get(key).title == "Dune"
    assert hold.cache[Loan].peek(str(key)).title == "Dune"
    with hold.unit() as unit:
        unit[Loan].update(key, title="Emma")
        assert hold.cache[Loan].get(key).title == "Emma"
    assert [row.title for row in hold.cache[Loan].get_many([key]).values()] == ["Emma"]
    hold.cache[Loan].invalidate(key)
    assert hold.cache[Loan].lookup(key).loaded
