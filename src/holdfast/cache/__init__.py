"""What is kept near: values that were loaded once, and end when what they were made of changes."""

from holdfast.cache.aspect import Cold, Hot, Tier, Warm
from holdfast.cache.cache import Cache
from holdfast.cache.changes import CacheCleared
from holdfast.cache.declared import Key
from holdfast.cache.decorator import cached
from holdfast.cache.found import MISSING, Found
from holdfast.cache.functions import CachedFunction, PlainCachedFunction
from holdfast.cache.loader import LOAD, Load, LoadFailed, LoadMany
from holdfast.cache.options import COLD, HOT, WARM, Options
from holdfast.cache.registry import Listed, registry
from holdfast.cache.results import metadata as result_metadata
from holdfast.cache.rows import Rows
from holdfast.cache.warming import Warmed, warms

__all__ = [
    "COLD",
    "HOT",
    "LOAD",
    "MISSING",
    "WARM",
    "Cache",
    "CacheCleared",
    "CachedFunction",
    "Cold",
    "Found",
    "Hot",
    "Key",
    "Listed",
    "Load",
    "LoadFailed",
    "LoadMany",
    "Options",
    "PlainCachedFunction",
    "Rows",
    "Tier",
    "Warm",
    "Warmed",
    "cached",
    "registry",
    "result_metadata",
    "warms",
]
