"""Where rows live: engines, units of work, repositories, queries, pages."""

from holdfast.store import confinement, flushing, lazy_loads  # noqa: F401  they listen to every unit and model
from holdfast.store.append_only import AppendOnly, append_only_models
from holdfast.store.appends import Appends
from holdfast.store.counters import Counters
from holdfast.store.hooks import Hooks
from holdfast.store.pages import Page
from holdfast.store.partitions import Monthly
from holdfast.store.query import Query
from holdfast.store.repository import Repository
from holdfast.store.scope import ALL, Tenant
from holdfast.store.search import Searchable
from holdfast.store.store import Isolation, Store
from holdfast.store.tenant_files import TenantFiles
from holdfast.store.unit import Unit

__all__ = [
    "ALL",
    "AppendOnly",
    "Appends",
    "Counters",
    "Hooks",
    "Isolation",
    "Monthly",
    "Page",
    "Query",
    "Repository",
    "Searchable",
    "Store",
    "Tenant",
    "TenantFiles",
    "Unit",
    "append_only_models",
]
