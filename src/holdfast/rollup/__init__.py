"""What is added up: measures by day and dimensions, kept equal to the batch by following the journal."""

from holdfast.rollup.definition import Count, Rollup, Sum
from holdfast.rollup.refresh import metadata
from holdfast.rollup.runner import TOPIC, Rollups

__all__ = ["TOPIC", "Count", "Rollup", "Rollups", "Sum", "metadata"]
