"""What every torture run shares: its options, its result, its planted faults.

A torture run is a module `torture/<name>.py`:

    PLANTS = {"cursor-by-seq": "followers bound their reading by seq"}   # faults the checker must catch
    VIOLATIONS = ("lost", "delivered_twice")                             # what it looks for

    def add_arguments(parser):  # optional: arguments of its own, which come as `options.given`
        parser.add_argument("--nodes", type=int, default=4)

    async def run(options: Options) -> Result:
        result = Result("journal", options, VIOLATIONS)
        ...
        result.violate("lost", "change 17 of agents was never delivered")
        result.figures["changes"] = 120_000
        return result

It works hard for `options.seconds`, then checks; whatever it draws at random comes from `options.random`.
"""

import random
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

DETAILS_KEPT = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a torture run is run."""

    seconds: float
    """How long the hard work lasts; setting up and checking come on top."""

    seed: int
    """What every random choice follows from."""

    plant: str | None = None
    """The fault to plant, one of the module's `PLANTS`; None for the real thing."""

    given: Mapping[str, Any] = field(default_factory=dict)
    """What the module's own arguments say, by name."""

    say: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))
    """Told about progress; never writes to standard output."""

    def random(self, *branch: object) -> random.Random:
        """A generator of its own for each `branch` (a writer's number, say), the same for the same seed."""
        return random.Random(f"{self.seed}/{'/'.join(map(str, branch))}")


class Result:
    """What a torture run found: a count for each violation it looks for, and figures."""

    def __init__(self, torture: str, options: Options, violations: Iterable[str]) -> None:
        self.torture = torture
        self.seed = options.seed
        self.violations: dict[str, int] = dict.fromkeys(violations, 0)
        self.figures: dict[str, float | int | str] = {}
        self.details: list[str] = []

    def violate(self, name: str, detail: str = "", *, count: int = 1) -> None:
        """Count a violation; the first details are shown to a person.

        Raises KeyError for a name that the run did not say it looks for.
        """
        if name not in self.violations:
            raise KeyError(f"violation {name!r} is not one of: {', '.join(self.violations)}")
        self.violations[name] += count
        if detail and count > 0 and len(self.details) < DETAILS_KEPT:
            self.details.append(f"{name}: {detail}")

    @property
    def broken(self) -> bool:
        """Whether any violation was found."""
        return any(self.violations.values())

    def to_json(self) -> bytes:
        """`{"torture", "seed", "violations": {name: count}, "figures": {…}}`"""
        return msgspec.json.encode(
            {"torture": self.torture, "seed": self.seed, "violations": self.violations, "figures": self.figures}
        )

    def print(self, console: Console) -> None:
        """The result for a person."""
        table = Table("violation", title=f"{self.torture}, seed {self.seed}", title_justify="left")
        table.add_column("count", justify="right")
        for name, count in self.violations.items():
            table.add_row(name, f"[bold red]{count:,}[/]" if count else "[green]0[/]")
        console.print(table)
        for detail in self.details:
            console.print(f"  [red]·[/] {escape(detail)}")
        for name, figure in self.figures.items():
            console.print(f"  {name}: {figure:,}" if isinstance(figure, int) else f"  {name}: {figure}")
        console.print("[bold red]violated[/]" if self.broken else "[green]held[/]")
