"""What commands print: one JSON object, JSON lines, or text for people."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

FAILED = 1
DONE_IN_PART = 3

Database = Annotated[
    str | None,
    typer.Option("--database", "-d", metavar="URL", help="sqlite:///file.db or postgresql://user@host/name."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine output on standard output.")]

_encoder = msgspec.json.Encoder()


def print_json(value: Any) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(_encoder.encode(value).decode() + "\n")


def console(*, stderr: bool = False) -> Console:
    """A console for people: tables and progress."""
    return Console(stderr=stderr, highlight=False)
