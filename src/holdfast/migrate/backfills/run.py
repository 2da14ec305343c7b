"""`backfill`: change every row of a table beside whoever else writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement

from holdfast.migrate.backfills.asked import Asked
from holdfast.migrate.backfills.report import Report
from holdfast.migrate.backfills.runner import OnError, Runner, Told
from holdfast.migrate.backfills.writing import Into, Transform
from holdfast.store import Query, Store


async def backfill(
    store: Store,
    *,
    name: str,
    source: Any,
    transform: Transform | None = None,
    set_: Mapping[str, Any] | None = None,
    write: Into | None = None,
    columns: Sequence[str] | None = None,
    where: Sequence[ColumnElement[bool]] = (),
    batch: int = 1_000,
    max_lock: float = 0.05,
    duty: float = 1.0,
    max_replica_lag: float = 10.0,
    max_follower_lag: float | None = None,
    on_error: OnError = "stop",
    verify: Query[Any] | None = None,
    again: bool = False,
    wait: float = 60.0,
    give_up: float = 300.0,
    lease: float = 10.0,
    told: Told | None = None,
) -> Report:
    """Change every row of a table, or make rows of another from them, in short transactions beside other writers.

    How far it came is committed with each batch: a run that was killed is taken up where it stood when the same is
    asked again, and one that is done is not done twice. A row that somebody changed between being read and being
    written is read again, never overwritten.

    Args:
        name: by which it is known again.
        source: a `Query`, a model, or a `Table`; rows are read in the order of the key.
        transform: given a row, returns the columns to set as a dict, or None to leave it alone; with `write`, a dict
            or several for the other table. It may be called twice for a row, and must have no effects of its own.
        set_: in place of `transform`, columns and the SQL expressions that they get.
        write: insert what `transform` returns into another table.
        columns: what of a row `transform` reads; all columns unless given.
        where: more conditions, as for a `Table`.
        batch: rows of a transaction at most.
        max_lock: seconds for which a transaction may hold locks; batches become smaller until they keep it.
        duty: the share of the time to work, 1 for all of it.
        max_replica_lag: seconds that a replica may be behind before it is waited for.
        max_follower_lag: the same for the slowest follower of the journal; None asks for none.
        on_error: "stop" raises at the first row that `transform` or the table refuses; "skip" leaves it and goes on.
        verify: a query of rows that there must be none of in the end.
        again: begin anew though it is done, or was asked for differently.
        wait: seconds to wait for another process that runs it.
        give_up: seconds to wait for rows that others hold.
        lease: seconds after which a process that says nothing is taken for dead, and another may go on.
        told: called after each batch.

    Raises:
        InvalidValue: what is asked for makes no sense.
        MigrationError: a row was refused, what is asked is not what was begun under this name, or rows are held by
            others for longer than `give_up`. What was committed stands, and the next run goes on from there.
        Unavailable: another process runs it for longer than `wait` seconds.
    """
    asked = Asked(
        name, source, transform, set_, write, columns=columns, where=where, batch=batch, max_lock=max_lock, duty=duty
    )
    runner = Runner(
        store,
        asked,
        on_error=on_error,
        give_up=give_up,
        lease=lease,
        told=told,
        max_replica_lag=max_replica_lag,
        max_follower_lag=max_follower_lag,
    )
    return await runner.run(verify, again=again, wait=wait)
