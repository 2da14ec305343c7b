"""What comes from outside, as a mechanism: sources, batches, dead letters."""

from holdfast.index.batches import Indexer, Item, Sink
from holdfast.index.rejected import Rejected, list_rejected

__all__ = ["Indexer", "Item", "Rejected", "Sink", "list_rejected"]
