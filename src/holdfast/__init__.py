"""Holdfast: declare a model once, with its policy; every committed write lands in one ordered journal."""

from holdfast.cache import LOAD, Cache, Cold, Hot, Key, Load, Warm, cached, warms
from holdfast.errors import HoldfastError
from holdfast.guard.audit import Audited
from holdfast.hold import Holdfast
from holdfast.journal import Change, Event, on
from holdfast.model import (
    NAMING,
    Amount,
    Aspect,
    Attributed,
    Encrypted,
    Expose,
    KeyedModel,
    Model,
    Policy,
    SoftDeleted,
    Text,
    Timestamps,
    Total,
    UtcTime,
    Versioned,
    exact_sum,
    live_unique,
    uuid7,
)
from holdfast.operate import Run, scheduled
from holdfast.rollup import Count, Rollup, Sum
from holdfast.settings import Settings
from holdfast.store import ALL, AppendOnly, Monthly, Page, Query, Repository, Searchable, Store, TenantFiles, Unit

__all__ = [
    "ALL",
    "LOAD",
    "NAMING",
    "Amount",
    "AppendOnly",
    "Aspect",
    "Attributed",
    "Audited",
    "Cache",
    "Change",
    "Cold",
    "Count",
    "Encrypted",
    "Event",
    "Expose",
    "Holdfast",
    "HoldfastError",
    "Hot",
    "Key",
    "KeyedModel",
    "Load",
    "Model",
    "Monthly",
    "Page",
    "Policy",
    "Query",
    "Repository",
    "Rollup",
    "Run",
    "Searchable",
    "Settings",
    "SoftDeleted",
    "Store",
    "Sum",
    "TenantFiles",
    "Text",
    "Timestamps",
    "Total",
    "Unit",
    "UtcTime",
    "Versioned",
    "Warm",
    "cached",
    "exact_sum",
    "live_unique",
    "on",
    "scheduled",
    "uuid7",
    "warms",
]
