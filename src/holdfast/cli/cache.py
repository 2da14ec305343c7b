"""`holdfast cache`: how the cache is used, and looking after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import DONE_IN_PART, FAILED, Database, Json, console, help_of, print_json, say, visible

if TYPE_CHECKING:
    from rich.table import Table

    from holdfast.cache.report import CacheReport, Figures
    from holdfast.cache.warming import Progress, Warmed
    from holdfast.operate.performance import Performance

_TIMEOUT = 10.0  # seconds
_LONGEST = 64 * 2**20  # bytes of an answer
_SHOWN = 20  # rows of a table
_ENDED_BY = {"tags": "--tag", "keys": "--key", "matching": "--matching", "everything": "--all", "redis": "--redis"}

app = typer.Typer(
    no_args_is_help=True,
    help="How the cache is used; emptying it, warming it, and how fast it is.",
    epilog="Example: holdfast cache stats",
)


@app.callback()
def _group() -> None:
    """How the cache is used; emptying it, warming it, and how fast it is."""


def stats(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="The service, on this machine; each process counts for itself.")
    ] = "http://127.0.0.1:8000",
    span: Annotated[str, typer.Option("--span", metavar="SPAN", help="hour, days or start.")] = "hour",
    as_json: Json = False,
) -> None:
    """What a service that runs has counted: reads, hit rates, loads, by key, endpoint, tag and tier; and advice.

    Exits with 1 where there is something to mend.

    Examples:

    holdfast cache stats

    holdfast cache stats --url http://127.0.0.1:9000 --span days --json
    """
    report = _asked(url, span)
    if as_json:
        print_json(report)
    else:
        _show_report(report)
    if any(advice.state == "wrong" for advice in report.advice):
        raise typer.Exit(FAILED)


def clear(
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="What carries it; again for more.")
    ] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help="One value; again for more.")] = None,
    matching: Annotated[
        str | None, typer.Option("--matching", metavar="PATTERN", help="Clean up keys like it in Redis: * ? […].")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    redis: Annotated[bool, typer.Option("--redis", help="For an emergency: every key of ours in Redis.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """End values on every node, by an event in the journal; nodes follow within their bound of staleness.

    --matching and --redis clean up Redis alone: what nodes have in memory they keep.

    Examples:

    holdfast cache clear --tag users --tag orders

    holdfast cache clear --all
    """
    from holdfast.operate.clearing import Clear
    from holdfast.operate.clearing import clear as end

    what = Clear(tuple(tags or ()), tuple(keys or ()), matching, everything, redis)
    given = [_ENDED_BY[name] for name in what.given]
    if len(given) != 1:
        allowed = ", ".join(_ENDED_BY.values())
        raise typer.BadParameter(f"say what is to end, one of {allowed}; not {' and '.join(given) or 'none'}")

    async def run() -> int | None:
        async with opened(database) as hold:
            return await end(hold.cache, hold.flush_redis, what)

    removed = asyncio.run(run())
    if as_json:
        print_json({"cleared": given[0].removeprefix("--"), "removed_from_redis": removed})
    elif removed is not None:
        say(f"Removed {removed:,} {'keys' if redis else 'values'} from Redis.")
    else:
        say("Ended on every node.")


def warm(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SET]…", help="All by default.")] = None,
    per_second: Annotated[float, typer.Option(metavar="N", min=0.001, help="Keys begun in a second at most.")] = 100.0,
    at_once: Annotated[int, typer.Option(metavar="N", min=1, max=1_000, help="Loads under way at most.")] = 4,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Load into Redis what is declared to be kept warm: @warms, in the modules of HOLDFAST_MODELS.

    Exits with 1 where Redis does not answer or nothing could be loaded, and 3 where some of it could not.

    Example:

    holdfast cache warm --per-second 20
    """

    from holdfast.errors import Unavailable

    async def run(progress: Callable[[Progress], None]) -> list[Warmed]:
        async with opened(database) as hold:
            redis = await hold.redis_report()
            if redis is None and not as_json:
                say("There is no HOLDFAST_REDIS_URL: what is loaded ends with this command.", "yellow")
            if redis is not None and not redis.servers:
                reasons = "; ".join(f"{one.place}: {one.reason}" for one in redis.unreachable)
                raise Unavailable(f"there is nowhere to load into, for Redis does not answer ({reasons})")
            return await hold.cache.warmer.run(names or None, per_second=per_second, at_once=at_once, progress=progress)

    with _bar() as progress:
        found = asyncio.run(run(progress))
    for one in found:
        if as_json:
            print_json(one)
            continue
        line = f"{one.name}: {one.loaded:,} loaded, {one.kept:,} kept, {one.failed:,} failed, in {one.seconds:.1f} s"
        say(visible(line + (f"; {one.error}" if one.error else "")), "red" if one.error else "")
    if not found and not as_json:
        say("Nothing is declared to be kept warm; declare it with @warms(…) in a module of HOLDFAST_MODELS.")
    failed = sum(one.error is not None for one in found)
    if failed:
        raise typer.Exit(DONE_IN_PART if any(one.loaded + one.kept for one in found) else FAILED)


def bench(
    tests: Annotated[
        list[str] | None, typer.Argument(metavar="[TEST]…", help="health, basic, concurrent, stress; all by default.")
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """How fast the cache is from here: health, a hundred operations, users at once, and how many are too many.

    It uses keys of its own, which end with it. Exits with 1 where a level of the cache is broken.

    Examples:

    holdfast cache bench

    holdfast cache bench health basic --json
    """
    from holdfast.operate.performance import TESTS, measure_performance

    async def run() -> Performance:
        async with opened(database) as hold:
            with console(stderr=True).status("health") as status:
                return await measure_performance(hold.cache, hold.store, tests or TESTS, progress=status.update)

    found = asyncio.run(run())
    if as_json:
        print_json(found)
    else:
        _show_performance(found)
    if any(not check.ok for check in found.health or ()):
        raise typer.Exit(FAILED)


def keys(
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="A service whose reads tell which of them are not used.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What is cached: declared keys and functions, in the modules of HOLDFAST_MODELS, with how long and what ends them.

    Examples:

    holdfast cache keys

    holdfast cache keys --url http://127.0.0.1:8000 --json
    """
    from holdfast.cache.registry import registry
    from holdfast.cli.models import metadata_of
    from holdfast.settings import Settings

    metadata_of(Settings.from_environment())
    unused = None if url is None else set(_asked(url, "start").unused)
    listed = registry.all()
    if as_json:
        for one in listed:
            print_json({**msgspec.structs.asdict(one), "read": None if unused is None else one.name not in unused})
        return
    if not listed:
        say("Nothing is cached: declare a Key, or put @cached on a function, in a module of HOLDFAST_MODELS.")
        return
    from rich.text import Text

    table = _table("name", "key", "kept for", "tags", "what it is")
    for column in table.columns[1:]:
        column.justify, column.overflow = "left", "fold"
    for one in listed:
        row = (one.name, one.template, f"{one.ttl:g} s, {one.tier}", " ".join(one.tags), one.about)
        table.add_row(*(Text(visible(text)) for text in row))
    console().print(table)
    for one in listed:
        if unused is not None and one.name in unused:
            say(visible(f"{one.name} was not read there since the start"), "yellow")


for _command in (stats, keys, clear, warm, bench):
    app.command(_command.__name__, help=help_of(_command))(_command)


def _asked(url: str, span: str) -> CacheReport:
    """What the service answers."""
    import urllib.error
    import urllib.request
    from urllib.parse import urlencode, urlsplit

    from holdfast.cache.report import CacheReport
    from holdfast.errors import InvalidValue, Unavailable

    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise InvalidValue(f"--url {url!r} is no address of a service; write it as http://127.0.0.1:8000")
    address = f"{url.rstrip('/')}/admin/cache/metrics?{urlencode({'span': span})}"
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
            return msgspec.json.decode(answer.read(_LONGEST), type=CacheReport)
    except urllib.error.HTTPError as error:
        raise InvalidValue(f"{url} answered {error.code}: {_detail(error.read(_LONGEST))}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"no service answers at {url} ({reason}); start one with `holdfast up`, or say --url"
        ) from None


def _detail(body: bytes) -> str:
    with contextlib.suppress(msgspec.MsgspecError):
        return str(msgspec.json.decode(body, type=dict[str, Any]).get("detail", ""))
    return "not an answer of Holdfast's"


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A bar a set on standard error, where that is a terminal."""
    from rich import progress as rich

    err = console(stderr=True)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn())
    with rich.Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(done: Progress) -> None:
            if done.name not in tasks:
                tasks[done.name] = bar.add_task(visible(done.name), total=done.keys)
            bar.update(tasks[done.name], completed=done.done, total=done.keys)

        yield show


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    return table


def _show_report(report: CacheReport) -> None:
    from rich.text import Text

    total, memory = report.total, report.memory
    words = {"hour": "in the last hour", "days": "in the last two days", "start": "since the start"}[report.span]
    rate = f", {_percent(total.hit_rate)} of them hits" if total.reads else ""
    say(f"{total.reads:,} reads {words}{rate}; {total.loads:,} loads")
    full = f"{memory.weight / memory.capacity:.1%} of the capacity"
    say(f"{memory.entries:,} values in memory, {full}; Redis: {report.redis}")
    for heading, rows in (
        ("key", report.templates),
        ("endpoint", report.endpoints),
        ("tag", report.tags),
        ("tier", report.tiers),
    ):
        if not rows:
            continue
        table = _table(heading, "reads", "hit rate", "from Redis", "misses", "stale", "loads", "failed", "a load")
        for row in rows[:_SHOWN]:
            table.add_row(Text(visible(row.name)), *_cells(row))
        say("")
        console().print(table)
        if len(rows) > _SHOWN:
            say(f"and {len(rows) - _SHOWN:,} more: --json has them all")
    for advice in report.advice:
        say("")
        say(visible(f"{advice.about}: {advice.detail}"), "red" if advice.state == "wrong" else "yellow")
        say(visible(f"  {advice.do}"))


def _cells(row: Figures) -> list[str]:
    load = "–" if row.load_milliseconds is None else f"{row.load_milliseconds:,.1f} ms"
    counts = [f"{count:,}" for count in (row.shared, row.misses, row.stale, row.loads, row.failures)]
    return [f"{row.reads:,}", _percent(row.hit_rate), *counts, load]


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1%}"


def _show_performance(found: Performance) -> None:
    for check in found.health or ():
        say(
            f"{check.level}: {'ok' if check.ok else check.detail} ({check.milliseconds:.1f} ms)",
            "" if check.ok else "red",
        )
    if found.basic is not None:
        table = _table("operation", "median ms", "p95", "p99", "slowest", "a second")
        for one in found.basic:
            times = (f"{time:,.3f}" for time in (one.median, one.p95, one.p99, one.slowest))
            table.add_row(one.operation, *times, f"{one.per_second:,.0f}")
        console().print(table)
    for name, levels in (("concurrent", found.concurrent), ("stress", found.stress)):
        if levels is None:
            continue
        table = _table(f"users at once ({name})", "reads a second", "median ms", "p95", "p99", "failed")
        for level in levels:
            times = (f"{time:,.3f}" for time in (level.median, level.p95, level.p99))
            table.add_row(f"{level.users:,}", f"{level.per_second:,.0f}", *times, f"{level.failed:,}")
        console().print(table)
    for words in found.recommendations:
        say(words, "yellow")
