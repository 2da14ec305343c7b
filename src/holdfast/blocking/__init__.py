"""The blocking face, for synchronous code: derived from the asynchronous one."""

from holdfast.blocking.faces import BlockingHoldfast, BlockingRepository, BlockingUnit

__all__ = ["BlockingHoldfast", "BlockingRepository", "BlockingUnit"]
