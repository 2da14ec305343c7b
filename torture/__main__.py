"""`python -m torture NAME`: run one torture run; without a name, list them and the faults they can plant."""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks.registry import UnknownName, load, runnable_names
from torture.harness import Options, Result

SECONDS = 20.0


def main(arguments: Sequence[str] | None = None, package: str = "torture") -> int:
    """Run the torture run that `arguments` name.

    Returns 0 when everything held, 1 on a violation, 2 for an unknown name or fault.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=__doc__)
    parser.add_argument("name", nargs="?", help="the run; without it they are listed")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"how long to work hard ({SECONDS:g})")
    parser.add_argument("--seed", type=int, help="what random choices follow from (a new one each time)")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--plant", metavar="FAULT", help="plant a fault that the checker must catch")
    chosen, own = parser.parse_known_args(arguments)
    if chosen.seconds <= 0:
        parser.error(f"--seconds must be above 0, not {chosen.seconds:g}")
    if chosen.name is None:
        for name in runnable_names(package):
            print(name, *(f"\n  --plant {fault}  {what}" for fault, what in _plants(package, name).items()), sep="")
        return 0
    try:
        module = load(package, chosen.name)
    except UnknownName as error:
        print(f"torture {error}", file=sys.stderr)
        return 2
    plants = _plants(package, chosen.name)
    if chosen.plant is not None and chosen.plant not in plants:
        print(f"fault {chosen.plant!r} is not one of: {', '.join(plants) or '(none)'}", file=sys.stderr)
        return 2
    given = argparse.ArgumentParser(prog=f"python -m {package} {chosen.name}")
    getattr(module, "add_arguments", lambda parser: None)(given)
    seed = secrets.randbelow(2**31) if chosen.seed is None else chosen.seed
    options = Options(seconds=chosen.seconds, seed=seed, plant=chosen.plant, given=vars(given.parse_args(own)))
    options.say(
        f"{chosen.name}: {chosen.seconds:g} s, seed {seed}" + (f", planted {chosen.plant}" if chosen.plant else "")
    )
    result: Result = asyncio.run(module.run(options))
    if chosen.json:
        sys.stdout.write(result.to_json().decode() + "\n")
    else:
        result.print(Console())
    return 1 if result.broken else 0


def _plants(package: str, name: str) -> Mapping[str, str]:
    plants: Mapping[str, str] = getattr(load(package, name), "PLANTS", {})
    return plants


if __name__ == "__main__":
    sys.exit(main())
