"""Handlers are called for what they asked for: at least once, in order, and what one cannot take stops nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import text

from holdfast.errors import ConfigurationError
from holdfast.journal import Change, Event, Handler, Handlers, Journal, handler
from holdfast.journal.handlers import HandlerStatus
from holdfast.journal.schema import install
from holdfast.store import Store, Unit
from tests.backends import settings_for
from tests.journal.conftest import MODELS, Note, Payment, Quiet, until
from tests.logs import capture_logs


class Sailed(Event, topic="ship_sailed", tags=("ship:{ship}",), key="{ship}"):
    ship: str
    port: str = "Kiel"


class Holdfast:
    """What a handler may ask for by this name."""


HOLD = Holdfast()
Work = Callable[..., Any]


def handlers_of(log: Journal, *wanted: Handler) -> Handlers:
    made = Handlers(log, MODELS, {"Holdfast": HOLD})
    for one in wanted:
        made.add(one)
    return made


async def sail(store: Store, *ships: str) -> None:
    for ship in ships:
        async with store.unit(actor="ada", tenant="t1") as unit:
            await unit.emit(Sailed(ship=ship))


async def settled(log: Journal, *names: str) -> None:
    upto = await log.make_tick()
    for name in names:
        await log.wait_until(upto, f"on:{name}", timeout=60)


@pytest.fixture
async def other(store: Store) -> AsyncIterator[Journal]:
    """The journal as another process has it."""
    theirs = Store(settings_for(store.settings.database_url, poll_interval=0.05))
    log = Journal(theirs, lease=1.0)
    yield log
    await log.close()
    await theirs.close()


async def test_a_handler_gets_its_event_and_what_it_asks_for(store: Store, log: Journal) -> None:
    seen: list[Any] = []

    async def typed(event: Sailed, change: Change, hold: Holdfast, note: str = "of its own") -> None:
        seen.append((event, change.actor, change.tenant, hold is HOLD, note))

    async def plain(change: Change) -> None:
        seen.append((change.table, change.new))

    await sail(store, "Early")  # before it was declared
    made = handlers_of(
        log,
        Handler.checked(typed, Sailed),
        Handler.checked(plain, "untold"),
        Handler.checked(plain, "told", name="told"),
    )
    await made.start()
    await sail(store, "Gorch Fock")
    async with store.unit() as unit:
        await unit.emit("told", data=5)
        unit.add(Note())
    await settled(log, "typed", "plain", "told")
    assert sorted(seen, key=repr) == sorted(
        [
            (Sailed(ship="Gorch Fock"), "ada", "t1", True, "of its own"),
            ("told", {"tags": [], "data": 5}),
        ],
        key=repr,
    )


async def test_a_handler_of_a_model_is_called_for_what_was_done_to_rows(store: Store, log: Journal) -> None:
    seen: dict[str, list[str]] = {}

    def noting(name: str) -> Work:
        async def note(change: Change) -> None:
            seen.setdefault(name, []).append(change.op)

        return note

    made = handlers_of(
        log,
        Handler.checked(noting("all"), Note, name="all"),
        Handler.checked(noting("updates"), Note, op="update", name="updates"),
        Handler.checked(noting("resets"), Note, op=("reset", "delete"), name="resets"),
    )
    await made.start()
    async with store.unit() as unit:
        unit.add(note := Note(n=1))
    async with store.unit() as unit:
        (await unit[Note].get(note.id)).n = 2
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 3")
        await unit.execute("DELETE FROM notes")
    await settled(log, "all", "updates", "resets")
    assert seen == {
        "all": ["insert", "update", "update", "delete"],
        "updates": ["update", "update"],
        "resets": ["delete"],
    }
    [one, _, updates] = await made.status()
    assert (one.name, one.topic, one.handled, one.parked, one.state) == ("all", "notes", 4, 0, "following")
    assert (updates.name, updates.ops, updates.handled, updates.failures) == ("updates", ("update",), 2, 0)


async def test_what_fails_is_parked_with_its_key_and_taken_again(store: Store, log: Journal, other: Journal) -> None:
    sunk, seen = {"Vasa"}, []

    async def arrive(event: Sailed) -> None:
        if event.ship in sunk:
            raise ValueError(f"the {event.ship} sank")
        seen.append((event.ship, event.port))

    handler = Handler.checked(arrive, Sailed)
    made, theirs = handlers_of(log, handler), handlers_of(other, handler)
    await made.start()
    async with store.unit() as unit:
        for port in ("Kiel", "Riga"):
            for ship in ("Ann", "Vasa", "Bea"):
                await unit.emit(Sailed(ship=ship, port=port))
    await settled(log, "arrive")
    # None of those that were taken was given again, though they were in a batch with one that failed six times.
    assert seen == [("Ann", "Kiel"), ("Bea", "Kiel"), ("Ann", "Riga"), ("Bea", "Riga")]
    [status] = await theirs.status()
    assert (status.parked, status.handled, status.failures) == (2, 4, 6)
    assert status.last_error == "ValueError: the Vasa sank"
    assert status.last_failed is not None
    assert status.holder is not None
    assert (status.lag_changes, status.follower) == (0, "on:arrive")
    letters = await other.dead_letters("on:arrive")
    assert [(one.change.key, one.error[:10]) for one in letters] == [("Vasa", "ValueError"), ("Vasa", "an earlier")]
    sunk.clear()
    await other.retry("on:arrive")
    await until(lambda: len(seen) == 6, 30)
    assert seen[4:] == [("Vasa", "Kiel"), ("Vasa", "Riga")]

    async def is_counted() -> bool:
        [status] = await theirs.status()
        return (status.parked, status.handled) == (0, 6)

    await until(is_counted)


async def test_a_handler_whose_own_task_was_cancelled_has_failed(store: Store, log: Journal) -> None:
    seen: list[str] = []

    async def arrive(event: Sailed) -> None:
        seen.append(event.ship)
        if event.ship == "Vasa":
            lost = asyncio.create_task(asyncio.sleep(60))
            lost.cancel()
            await lost

    made = handlers_of(log, Handler.checked(arrive, Sailed))
    await made.start()
    await sail(store, "Vasa")
    await sail(store, "Kon-Tiki")
    await settled(log, "arrive")
    assert seen[-1] == "Kon-Tiki"
    [status] = await made.status()
    assert (status.parked, status.handled) == (1, 1)
    [letter] = await log.dead_letters("on:arrive")
    assert "cancelled" in letter.error


async def test_what_a_handler_writes_through_its_unit_is_kept_once(store: Store, log: Journal) -> None:
    failures = [2]

    async def keep(event: Sailed, unit: Unit) -> None:
        unit.add(Note(text=event.ship))
        await unit.flush()
        if event.ship == "Bea" and failures[0]:
            failures[0] -= 1
            raise ValueError("a wave")

    made = handlers_of(log, Handler.checked(keep, Sailed))
    await made.start()
    async with store.unit() as unit:
        for ship in ("Ann", "Bea"):
            await unit.emit(Sailed(ship=ship))
    await settled(log, "keep")
    async with store.connect() as connection:
        rows = (await connection.execute(text("SELECT text FROM notes ORDER BY text"))).scalars().all()
    assert rows == ["Ann", "Bea"]
    [status] = await made.status()
    assert (status.handled, status.failures, status.parked) == (2, 2, 0)


async def test_a_handler_goes_on_where_it_stopped_and_one_process_runs_it(
    store: Store, log: Journal, other: Journal
) -> None:
    seen: list[tuple[str, str]] = []

    def noting(where: str) -> Work:
        async def note(event: Sailed) -> None:
            seen.append((where, event.ship))

        return note

    made = handlers_of(log, Handler.checked(noting("here"), Sailed, name="note"))
    theirs = handlers_of(other, Handler.checked(noting("there"), Sailed, name="note"))
    await made.start()
    await made.start()  # runs each once
    await until(lambda: log._followers["on:note"][0]._lease is not None)
    await theirs.start()
    await sail(store, "Ann")
    await settled(log, "note")
    await log.close()
    await sail(store, "Bea")
    await until(lambda: len(seen) == 2, 30)
    assert seen == [("here", "Ann"), ("there", "Bea")]


async def test_changes_that_are_gone_are_told_and_not_handled(store: Store, log: Journal) -> None:
    seen: list[str] = []

    async def note(event: Sailed) -> None:
        seen.append(event.ship)

    async def rebuild(change: Change) -> None:
        seen.append(change.op)

    made = handlers_of(log, Handler.checked(note, Sailed), Handler.checked(rebuild, Note, op=("insert", "reset")))
    await made.start()
    await sail(store, "Ann")
    await settled(log, "note", "rebuild")
    with capture_logs() as logs:
        await log.rebuild("on:note")
        await log.rebuild("on:rebuild")
        await until(lambda: "reset" in seen, 30)
        await until(lambda: any("handler_missed_changes" in str(line) for line in logs), 30)
    await sail(store, "Bea")
    await settled(log, "note")
    assert sorted(seen) == ["Ann", "Bea", "reset"]


async def test_an_event_that_no_longer_fits_its_class_is_parked(store: Store, log: Journal) -> None:
    seen: list[str] = []

    async def note(event: Sailed) -> None:
        seen.append(event.ship)

    made = handlers_of(log, Handler.checked(note, Sailed))
    await made.start()
    async with store.unit() as unit:
        await unit.emit("ship_sailed", data={"vessel": "Ann"})
    await sail(store, "Bea")
    await settled(log, "note")
    assert seen == ["Bea"]
    [letter] = await log.dead_letters("on:note")
    assert "is no Sailed" in letter.error


async def test_a_journal_of_the_version_before_is_brought_to_this_one(store: Store, log: Journal) -> None:
    seen: list[str] = []

    async def note(event: Sailed) -> None:
        seen.append(event.ship)

    async with store.connect(write=True) as connection:
        for column in ("handled", "failures", "last_error", "last_failed"):
            await connection.exec_driver_sql(f"ALTER TABLE holdfast_followers DROP COLUMN {column}")
        await connection.exec_driver_sql("UPDATE holdfast_epoch SET schema_version = 1")
    async with store.engine.begin() as connection:
        from holdfast.journal import verify

        assert await verify(connection, MODELS) == ["the journal has version 1, and this program needs 3"]
        await install(connection)
        assert await verify(connection, MODELS) == []
    made = handlers_of(log, Handler.checked(note, Sailed))
    await made.start()
    await sail(store, "Ann")
    await settled(log, "note")
    assert [one.handled for one in await made.status()] == [1]


async def test_a_handler_that_never_ran_is_shown(log: Journal) -> None:
    async def note(event: Sailed) -> None: ...

    await log.make_tick()
    made = handlers_of(log, Handler.checked(note, Sailed))
    assert await made.status() == [HandlerStatus("note", "ship_sailed", ("event",), "on:note")]


def test_handlers_of_imported_modules_are_run_where_their_model_is_kept(
    log: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = handler.Registered()
    monkeypatch.setattr("holdfast.journal.handler.registered", known)
    monkeypatch.setattr("holdfast.journal.handlers.registered", known)

    @handler.on(Note, op="insert")
    async def b(change: Change) -> None: ...

    @handler.on(Sailed, name="a")
    async def also(event: Sailed) -> None: ...

    assert [one.name for one in handlers_of(log).all()] == ["a", "b"]
    assert [one.name for one in Handlers(log, [], {}).all()] == ["a"]


async def _sync(event: Sailed) -> None: ...


async def _another(event: Sailed) -> None: ...


def _not_async(event: Sailed) -> None: ...


async def _takes_more(event: Sailed, colour: str) -> None: ...


async def _takes_nothing() -> None: ...


@pytest.mark.parametrize(
    ("function", "subject", "options", "says"),
    [
        (_not_async, Sailed, {}, "must be written `async def _not_async"),
        (_takes_more, Sailed, {}, "a parameter 'colour'; behind the event it may take unit: Unit"),
        (_takes_nothing, Sailed, {}, "must take the event"),
        (_sync, Event, {}, "a declared event, a model or a topic"),
        (_sync, 5, {}, "a declared event, a model or a topic, not 5"),
        (_sync, "", {}, "must be a word of yours"),
        (_sync, "*", {}, "must be a word of yours"),
        (_sync, "ship_sailled", {}, "which nothing declares; 'ship_sailed' is declared"),
        (_sync, Quiet, {}, r"never be called: Quiet has Policy\(capture=False\)"),
        (_sync, Note, {"op": "upsert"}, "is of insert, update, delete, reset, retired, not 'upsert'"),
        (_sync, Note, {"op": ()}, "is of insert"),
        (_sync, Sailed, {"op": "insert"}, "for events, which have no op"),
        (_sync, Sailed, {"name": ""}, "is no name for a handler"),
    ],
)
def test_a_handler_that_cannot_be_is_refused(function: Work, subject: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Handler.checked(function, subject, **options)


def test_names_tables_and_models_of_others_are_refused(log: Journal) -> None:
    made = handlers_of(log, Handler.checked(_sync, Sailed, name="n"))
    made.add(Handler.checked(_sync, Sailed, name="n"))  # the same one
    with pytest.raises(ConfigurationError, match=r"there is a handler 'n' already .*_sync"):
        made.add(Handler.checked(_another, Sailed, name="n"))
    with pytest.raises(ConfigurationError, match=r"'payments', which is a table; write on\(Payment\)"):
        made.add(Handler.checked(_sync, "payments"))
    with pytest.raises(ConfigurationError, match="Payment, which this data layer does not keep"):
        Handlers(log, [Note], {}).add(Handler.checked(_sync, Payment))


async def test_a_handler_that_is_declared_late_runs_from_the_next_start_on(log: Journal) -> None:
    made = handlers_of(log)
    await made.start()
    made.add(Handler.checked(_sync, Sailed))
    assert log._followers == {}
    await made.start()
    assert list(log._followers) == ["on:_sync"]
