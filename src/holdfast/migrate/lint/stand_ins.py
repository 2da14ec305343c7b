"""Modules that a revision imports and this environment lacks: most often for a column type, or for nothing at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from sqlalchemy.types import UserDefinedType


@contextmanager
def stand_ins(path: str) -> Iterator[None]:
    """While it lasts what the file at `path` itself imports, and nobody else has, is made of column types.

    A stand-in is a type that is called as it was imported. Whatever else the revision does with it raises, as
    without it. Afterwards the modules are gone again.
    """
    finder = _Finder(path)
    sys.meta_path.append(finder)  # behind all others: what exists is taken
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_StandIn,), {"__module__": self.__name__})


class _StandIn(UserDefinedType[Any]):
    cache_ok = True

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_col_spec(self, **_: Any) -> str:
        return type(self).__name__.lower()


class _Finder(MetaPathFinder, Loader):
    def __init__(self, path: str) -> None:
        self._path = path
        self.made: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package = name.rpartition(".")[0]
        if package and package not in self.made:
            return None  # of a package that is there a part is missing: that is a fault
        if not self._is_asked_by_the_file(sys._getframe(1)):
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.made.append(spec.name)
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass

    def _is_asked_by_the_file(self, frame: FrameType | None) -> bool:
        # Libraries probe for optional parts while the revision runs; those are to be missing.
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename == self._path
