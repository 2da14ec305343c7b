"""`python -m benchmarks NAME`: run one benchmark; without a name, list them."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from rich.console import Console

from benchmarks.harness import Options, Report
from benchmarks.registry import UnknownName, load, runnable_names


def main(arguments: Sequence[str] | None = None, package: str = "benchmarks") -> int:
    """Run the benchmark that `arguments` name.

    Returns 0, also when a target was missed unless `--strict` is said; 1 then; 2 for an unknown name.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=__doc__)
    parser.add_argument("name", nargs="?", help="the benchmark; without it they are listed")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="figures taken of each subject")
    parser.add_argument("--scale", type=float, default=Options.scale, help="factor on the amount of work")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or chosen.scale <= 0:
        parser.error("--rounds must be at least 1 and --scale above 0")
    if chosen.name is None:
        print("\n".join(runnable_names(package)) or "(none yet)")
        return 0
    try:
        module = load(package, chosen.name)
    except UnknownName as error:
        print(f"benchmark {error}", file=sys.stderr)
        return 2
    report: Report = asyncio.run(module.run(Options(rounds=chosen.rounds, scale=chosen.scale)))
    if chosen.json:
        sys.stdout.write(report.to_json().decode() + "\n")
    else:
        report.print(Console())
    return 1 if chosen.strict and report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
