"""Written by scripts/blocking_stubs.py from the asynchronous classes: do not edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from sqlalchemy import Executable, Result

from holdfast.cache.durations import Duration
from holdfast.cache.found import Found
from holdfast.cache.loader import Load, LoadMany
from holdfast.cache.memory import Size
from holdfast.cache.namespace import Namespace
from holdfast.cache.options import Options
from holdfast.cache.peeking import Peek
from holdfast.cache.report import CacheReport, Span
from holdfast.cache.statistics import Statistics
from holdfast.migrate import Difference, MigrationFile
from holdfast.model import Model
from holdfast.operate import CatchUp, PastRun, Work
from holdfast.settings import Settings
from holdfast.store import Isolation, Tenant
from holdfast.store.pages import Page
from holdfast.store.query import Query

M = TypeVar("M", bound=Model)
T = TypeVar("T")

class BlockingRepository(Generic[M]):
    model: type[M]
    def query(self) -> Query[M]: ...
    def get(self, key: Any, *, include: Sequence[str] = ...) -> M: ...
    def find(self, key: Any, *, include: Sequence[str] = ...) -> M | None: ...
    def get_many(self, keys: Iterable[Any], *, include: Sequence[str] = ...) -> dict[Any, M]: ...
    def first(self, query: Query[M]) -> M | None: ...
    def list(self, query: Query[M] | None = ...) -> list[M]: ...
    def count(self, query: Query[M] | None = ...) -> int: ...
    def exists(self, query: Query[M] | None = ...) -> bool: ...
    def page(
        self,
        query: Query[M] | None = ...,
        *,
        limit: int = ...,
        after: str | None = ...,
        number: int | None = ...,
        total: bool = ...,
    ) -> Page[M]: ...
    def stream(self, query: Query[M] | None = ..., *, batch: int = ...) -> Iterator[M]: ...
    def add(self, row: M) -> M: ...
    def add_many(self, rows: Sequence[M | dict[str, Any]]) -> int: ...
    def upsert_many(
        self,
        rows: Sequence[M | dict[str, Any]],
        *,
        on: Sequence[str] | None = ...,
        update_columns: Sequence[str] | None = ...,
    ) -> int: ...
    def update(self, key: Any, *, expect: int | None = ..., **values: Any) -> M: ...
    def delete(self, key: Any, *, expect: int | None = ...) -> None: ...
    def restore(self, key: Any, *, expect: int | None = ...) -> M: ...
    def purge(self, key: Any, *, expect: int | None = ...) -> None: ...

class BlockingCache:
    options: Options
    peek: Peek
    statistics: Statistics
    def close(self) -> None: ...
    def get(self, key: str, default: Any = ..., *, kind: Any = ...) -> Any: ...
    def get_or_load(
        self,
        key: str,
        loader: Callable[[Load], Any],
        *,
        options: Options | None = ...,
        tags: Iterable[str] = ...,
        kind: Any = ...,
        **given: Any,
    ) -> Any: ...
    def lookup(
        self,
        key: str,
        loader: Callable[[Load], Any],
        *,
        options: Options | None = ...,
        tags: Iterable[str] = ...,
        kind: Any = ...,
        **given: Any,
    ) -> Found[Any]: ...
    def refresh(
        self,
        key: str,
        loader: Callable[[Load], Any],
        *,
        lasting: Duration = ...,
        options: Options | None = ...,
        tags: Iterable[str] = ...,
        kind: Any = ...,
        **given: Any,
    ) -> bool: ...
    def set(
        self,
        key: str,
        value: Any,
        *,
        options: Options | None = ...,
        tags: Iterable[str] = ...,
        kind: Any = ...,
        **given: Any,
    ) -> None: ...
    def get_many(self, keys: Iterable[str], *, kind: Any = ...) -> dict[str, Any]: ...
    def set_many(
        self,
        values: Mapping[str, Any],
        *,
        options: Options | None = ...,
        tags: Iterable[str] = ...,
        kind: Any = ...,
        **given: Any,
    ) -> None: ...
    def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[LoadMany], Mapping[str, Any]],
        *,
        options: Options | None = ...,
        tags: Iterable[str] = ...,
        kind: Any = ...,
        **given: Any,
    ) -> dict[str, Any]: ...
    def delete(self, *keys: str) -> None: ...
    def invalidate(self, *tags: str) -> None: ...
    def clear(self) -> None: ...
    def namespace(
        self, name: str, *, options: Options | None = ..., tags: Iterable[str] = ..., **given: Any
    ) -> Namespace: ...
    def size(self) -> Size: ...
    def report(self, span: Span = ...) -> CacheReport: ...
    def redis_state(self) -> Literal["none", "ok", "away"]: ...
    def counted_as(self, endpoint: str) -> AbstractContextManager[None]: ...
    def remove_matching(self, pattern: str) -> int: ...
    def renew(self) -> None: ...

class BlockingUnit:
    actor: str | None
    tenant: str | None
    request_id: str | None
    read_only: bool
    session: Any
    store: Any
    def __getitem__(self, model: type[M]) -> BlockingRepository[M]: ...
    def add(self, *rows: Model) -> None: ...
    def emit(self, topic: str, *, tags: Iterable[str] = ..., data: Any = ...) -> None: ...
    def flush(self) -> None: ...
    def connection(self) -> Any: ...
    def execute(
        self, statement: Executable | str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = ...
    ) -> Result[Any]: ...
    def savepoint(self) -> AbstractContextManager[None]: ...
    def after_commit(self, callback: Callable[[], None | None]) -> None: ...

class BlockingHoldfast:
    settings: Settings
    models: list[type[Model]]
    store: Any
    journal: Any
    rollups: Any
    schedules: Any
    counters: Any
    cache: BlockingCache
    def unit(
        self,
        *,
        actor: str | None = ...,
        tenant: Tenant = ...,
        request_id: str | None = ...,
        isolation: Isolation | None = ...,
    ) -> AbstractContextManager[BlockingUnit]: ...
    def read(
        self, *, tenant: Tenant = ..., replica: bool = ..., at_least: str | None = ...
    ) -> AbstractContextManager[BlockingUnit]: ...
    def position(self) -> str: ...
    def run(self, work: Callable[[BlockingUnit], T], **options: Any) -> T: ...
    def migrate(self) -> Difference: ...
    def pending(self) -> Difference: ...
    def migrations(
        self, folder: Path | None = ..., *, wait: float = ..., known: Sequence[MigrationFile] | None = ...
    ) -> Any: ...
    def examiner(self) -> Any: ...
    def follow(self) -> None: ...
    def schedule(
        self,
        name: str,
        work: Work,
        *,
        cron: str | None = ...,
        every: float | None = ...,
        catch_up: CatchUp = ...,
        timeout: float | None = ...,
        attempts: int = ...,
        tenant: Tenant = ...,
    ) -> None: ...
    def worker(self, *, concurrency: int = ..., ended: Callable[[PastRun], None] | None = ...) -> Any: ...
    def run_schedule(self, name: str) -> PastRun: ...
    def close(self) -> None: ...
    def __init__(self, opening: Callable[[bool], Any]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
