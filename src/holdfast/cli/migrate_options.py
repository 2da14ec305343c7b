"""Options that several commands of `holdfast migrate` take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Folder = Annotated[
    Path | None,
    typer.Option("--folder", "-f", help="Of the migrations; else HOLDFAST_MIGRATIONS, else ./migrations."),
]
Phase = Annotated[
    Literal["pre", "post"] | None,
    typer.Option(help="pre: what runs before the new program is deployed; post: what runs after."),
]
