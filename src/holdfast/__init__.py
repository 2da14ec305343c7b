"""Holdfast: declare a model once, with its policy; every committed write lands in one ordered journal."""

from holdfast.errors import HoldfastError
from holdfast.hold import Holdfast
from holdfast.model import (
    NAMING,
    Amount,
    Aspect,
    Expose,
    Model,
    Policy,
    Text,
    Timestamps,
    Total,
    UtcTime,
    Versioned,
    exact_sum,
    uuid7,
)
from holdfast.rollup import Count, Rollup, Sum
from holdfast.settings import Settings
from holdfast.store import Page, Query, Repository, Store, Unit

__all__ = [
    "NAMING",
    "Amount",
    "Aspect",
    "Count",
    "Expose",
    "Holdfast",
    "HoldfastError",
    "Model",
    "Page",
    "Policy",
    "Query",
    "Repository",
    "Rollup",
    "Settings",
    "Store",
    "Sum",
    "Text",
    "Timestamps",
    "Total",
    "Unit",
    "UtcTime",
    "Versioned",
    "exact_sum",
    "uuid7",
]
