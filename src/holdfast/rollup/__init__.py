"""What is added up: measures by day and dimensions, kept equal to the batch by following the journal."""

from holdfast.rollup.definition import Count, Rollup, Sum

__all__ = ["Count", "Rollup", "Sum"]
