"""The names of the blocking faces; what they have is in `faces.pyi`, which is written from the asynchronous ones."""

from __future__ import annotations

from typing import Any

from holdfast.blocking.cache import BlockingCache
from holdfast.blocking.facade import Facade as BlockingHoldfast
from holdfast.blocking.proxy import Blocking as BlockingUnit


class BlockingRepository(BlockingUnit):
    """For annotations: `BlockingRepository[Note]`."""

    __slots__ = ()

    def __class_getitem__(cls, model: Any) -> Any:
        return cls


class BlockingLimiter(BlockingUnit):
    """For annotations."""

    __slots__ = ()


class BlockingServices(BlockingUnit):
    """For annotations."""

    __slots__ = ()


class BlockingRows(BlockingUnit):
    """For annotations: `BlockingRows[Note]`."""

    __slots__ = ()

    def __class_getitem__(cls, model: Any) -> Any:
        return cls


__all__ = [
    "BlockingCache",
    "BlockingHoldfast",
    "BlockingLimiter",
    "BlockingRepository",
    "BlockingRows",
    "BlockingServices",
    "BlockingUnit",
]
