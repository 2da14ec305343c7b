"""What every benchmark shares: interleaved rounds, medians, targets, one report.

A benchmark is a module `benchmarks/<name>.py`:

    async def run(options: Options) -> Report:
        report = Report("store", options)
        await report.measure("get", "µs", {"holdfast": ours, "async ORM": theirs})
        report.target("get over async ORM", report.ratio("get", "holdfast", "async ORM"), at_most=1.15)
        return report

A subject is a function without arguments that does the case's work once and returns its figure in the
case's unit; `per_second` and `microseconds_each` time a function so. Subjects of a case run in turn
within each round, in an order that rotates, so that what the machine does meanwhile falls on all alike.
"""

import asyncio
import inspect
import math
import os
import platform
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
Subject = Callable[[], Awaitable[float] | float]
Work = Callable[[], Awaitable[object] | object]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a benchmark is run."""

    rounds: int = 5
    """How often each subject's figure is taken, after one round that is thrown away."""

    scale: float = 1.0
    """Factor on the amount of work; below 1 for a quick look, whose figures mean little."""

    say: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))
    """Told about progress; never writes to standard output."""

    def scaled(self, count: int) -> int:
        """`count` times the scale, at least 1."""
        return max(1, round(count * self.scale))


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One subject's figures in one case."""

    case: str
    subject: str
    unit: str
    median: float
    runs: list[float]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and the limit it is held to; `target` says in words which way."""

    target: str
    figure: float
    limit: float
    met: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures were taken."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    python: str


class Report:
    """The outcome of one benchmark, filled by `measure`, `record` and `target`."""

    def __init__(self, benchmark: str, options: Options) -> None:
        self.benchmark = benchmark
        self.options = options
        self.cases: list[Case] = []
        self.targets: list[Target] = []

    async def measure(
        self, case: str, unit: str, subjects: Mapping[str, Subject], *, rounds: int | None = None
    ) -> None:
        """Run every subject once a round, after one round of warming up, and record their figures.

        `rounds` overrides the options' number, for a case that takes long.
        """
        names = list(subjects)
        runs: dict[str, list[float]] = {name: [] for name in names}
        for number in range((rounds or self.options.rounds) + 1):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                figure = subjects[name]()
                figure = await figure if inspect.isawaitable(figure) else figure
                if number > 0:
                    runs[name].append(figure)
        for name in names:
            self.record(case, name, unit, runs[name])

    def record(self, case: str, subject: str, unit: str, runs: Sequence[float]) -> None:
        """Note figures taken otherwise than by `measure`. Raises ValueError for none, or for one that is no number."""
        if not runs or not all(math.isfinite(run) for run in runs):
            raise ValueError(f"case {case!r}, subject {subject!r}: runs must be finite numbers, not {list(runs)!r}")
        figures = [float(run) for run in runs]
        self.cases.append(Case(case=case, subject=subject, unit=unit, median=statistics.median(figures), runs=figures))
        self.options.say(f"{self.benchmark} · {case} · {subject}: {readable(statistics.median(figures))} {unit}")

    def median(self, case: str, subject: str) -> float:
        """The median of a recorded subject. Raises KeyError when it was not recorded."""
        return self._case(case, subject).median

    def ratio(self, case: str, subject: str, to: str) -> float:
        """The median, over rounds, of `subject`'s figure divided by that of `to` in the same round."""
        pairs = zip(self._case(case, subject).runs, self._case(case, to).runs, strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def target(
        self, target: str, figure: float, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """Hold `figure` to a limit: exactly one of `at_most` and `at_least`."""
        if (at_most is None) == (at_least is None):
            raise ValueError(f"target {target!r}: give at_most or at_least, one of them")
        if at_most is not None:
            text, limit, met = f"{target} ≤ {readable(at_most)}", at_most, figure <= at_most
        else:
            assert at_least is not None
            text, limit, met = f"{target} ≥ {readable(at_least)}", at_least, figure >= at_least
        self.targets.append(Target(target=text, figure=float(figure), limit=float(limit), met=met))

    @property
    def missed(self) -> list[Target]:
        """The targets that were not met."""
        return [target for target in self.targets if not target.met]

    def to_json(self) -> bytes:
        """`{"benchmark", "machine", "cases": […], "targets": […]}`"""
        return msgspec.json.encode(
            {"benchmark": self.benchmark, "machine": machine(), "cases": self.cases, "targets": self.targets}
        )

    def print(self, console: Console) -> None:
        """Two tables for a person: the figures, then the targets."""
        here = machine()
        console.print(f"[bold]{self.benchmark}[/] on {here.cores} cores of {here.processor}, Python {here.python}")
        figures = Table("case", "subject", "unit", title_justify="left")
        for heading in ("median", "lowest", "highest"):
            figures.add_column(heading, justify="right")
        last = None
        for case in self.cases:
            if last is not None and case.case != last:
                figures.add_section()
            shown = (readable(case.median), readable(min(case.runs)), readable(max(case.runs)))
            figures.add_row(case.case if case.case != last else "", case.subject, case.unit, *shown)
            last = case.case
        console.print(figures)
        if self.targets:
            held = Table("target", title_justify="left")
            held.add_column("figure", justify="right")
            held.add_column("")
            for target in self.targets:
                verdict = "[green]met[/]" if target.met else "[bold red]missed[/]"
                held.add_row(target.target, readable(target.figure), verdict)
            console.print(held)

    def _case(self, case: str, subject: str) -> Case:
        for recorded in self.cases:
            if (recorded.case, recorded.subject) == (case, subject):
                return recorded
        known = ", ".join(f"{recorded.case}/{recorded.subject}" for recorded in self.cases)
        raise KeyError(f"{case}/{subject} was not recorded; these were: {known or '(none)'}")


def per_second(work: Work, count: int) -> Callable[[], Awaitable[float]]:
    """A subject for things a second: `count` things are done by one call of `work`."""

    async def subject() -> float:
        return count / await _seconds(work)

    return subject


def microseconds_each(work: Work, count: int) -> Callable[[], Awaitable[float]]:
    """A subject for microseconds a thing: `count` things are done by one call of `work`."""

    async def subject() -> float:
        return await _seconds(work) / count * 1e6

    return subject


async def started(module: str, *arguments: str) -> Process:
    """A process that runs a module of the benchmarks; its input and output are the caller's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    command = (sys.executable, "-m", module, *arguments)
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE)


async def _seconds(work: Work) -> float:
    start = time.perf_counter()
    outcome = work()
    if inspect.isawaitable(outcome):
        await outcome
    return time.perf_counter() - start


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0–1) of the values do not exceed (nearest rank)."""
    if not values or not 0 <= share <= 1:
        raise ValueError(f"a quantile needs values and a share from 0 to 1, not {len(values)} values and {share}")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def readable(figure: float) -> str:
    """Three significant digits, thousands grouped: `1.15`, `48.2`, `402,618`."""
    if figure == 0 or abs(figure) >= 100:
        return f"{figure:,.0f}"
    digits = 2 - math.floor(math.log10(abs(figure)))
    return f"{figure:.{digits}f}".rstrip("0").rstrip(".")


def machine() -> Machine:
    """This machine, as far as it matters to a figure."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(pages / 2**30, 1),
        python=platform.python_version(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
