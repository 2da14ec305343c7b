"""How far a backfill among the migrations is, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.cli.output import console

if TYPE_CHECKING:
    from holdfast.migrate.backfills.report import Progress


@contextmanager
def shown_progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error while a backfill runs, where that is a terminal."""
    from rich import progress as rich

    err = console(stderr=True)
    columns = (rich.TextColumn("backfill"), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("backfill", total=None, visible=False)

        def show(done: Progress) -> None:
            bar.update(task, total=done.total, completed=done.read, visible=True)

        yield show
