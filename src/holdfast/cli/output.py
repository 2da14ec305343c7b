"""What commands print: one JSON object, JSON lines, or text for people."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from holdfast.errors import HoldfastError

FAILED = 1
USAGE = 2
DONE_IN_PART = 3
INTERRUPTED = 130

Database = Annotated[
    str | None,
    typer.Option("--database", "-d", metavar="URL", help="sqlite:///file.db or postgresql://user@host/name."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine output on standard output.")]

_PIPED = 200  # columns of a table that no terminal shows
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_encoder = msgspec.json.Encoder()


class ReaderGone(Exception):
    """Whoever read our output has gone (`| head`): there is nobody left to tell anything."""


class OutputLost(HoldfastError):
    """The standard output takes nothing any more: the disk that it goes to is full."""


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise ReaderGone


def print_json(value: Any, *, flush: bool = False) -> None:
    """Print one JSON value on a line of its own; `flush` where the next may be long in coming.

    Raises:
        ReaderGone: the other end of the pipe is closed. OutputLost: it cannot be written.
    """
    try:
        sys.stdout.write(_encoder.encode(value).decode() + "\n")
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise OutputLost(f"cannot write the output: {error.strerror}; is its disk full?") from None


def console(*, stderr: bool = False) -> Console:
    """A console for people: tables and progress. Into a pipe tables are as wide as they need to be."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED
    return _Console(stderr=stderr, highlight=False, width=width)


def say(line: str, style: str = "") -> None:
    """Print a line for people as it is: nothing in it is markup, and only the terminal wraps it.

    Raises:
        ReaderGone: the other end of the pipe is closed.
    """
    console().print(Text(line, style), soft_wrap=True)


def complain(line: str) -> None:
    """Print one line on standard error; control characters in what it quotes are written out."""
    typer.echo(visible(line), err=True)


def visible(text: str) -> str:
    """`text` with its control characters written out, so that what is quoted cannot move the cursor."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def mute() -> None:
    """Send what is still buffered nowhere, so that the exit does not fail once more on a stdout that is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def help_of(command: Callable[..., Any]) -> str:
    """The docstring of a command as its help: a paragraph a line, for how lines are joined differs by version."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs)
