"""Modules of a package that are run by name: those that define `async def run(`.

They are found by their text, not by importing them: listing names stays quick, and one that needs a
missing extra does not keep the others from running.
"""

import importlib
import importlib.util
import pkgutil
from types import ModuleType


class UnknownName(LookupError):
    """No module of that name can be run; the message lists those that can."""


def runnable_names(package: str) -> list[str]:
    """The names, sorted."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if _defines_run(f"{package}.{module.name}")
    )


def load(package: str, name: str) -> ModuleType:
    """The module `package.name`. Raises `UnknownName` when it is not one that can be run."""
    known = runnable_names(package)
    if name not in known:
        raise UnknownName(f"{name!r} is not one of: {', '.join(known) or '(none yet)'}")
    return importlib.import_module(f"{package}.{name}")


def _defines_run(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec else None
    if loader is None or not hasattr(loader, "get_source"):
        return False
    return "\nasync def run(" in f"\n{loader.get_source(module) or ''}"
