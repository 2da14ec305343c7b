"""The command-line face: `holdfast`."""

from holdfast.cli.main import app, main

__all__ = ["app", "main"]
