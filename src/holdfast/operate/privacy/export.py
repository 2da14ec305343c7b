"""What is kept of a person, as a ZIP of JSON files with a manifest of their hashes."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import zipfile
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import or_, select

from holdfast.errors import InvalidValue, NotFound, Unavailable
from holdfast.guard.audit import Trail
from holdfast.guard.audit.export import in_parts, line_of
from holdfast.guard.audit.private import Private, owner_of
from holdfast.guard.audit.record import Record
from holdfast.model import Model
from holdfast.operate.privacy.classified import Sort, sorts_of
from holdfast.operate.privacy.personal import Personal, table_of
from holdfast.operate.privacy.rows import pages, personal_models, rows_of
from holdfast.store import ALL, Store, Unit
from holdfast.store.keys import key_of

FORMAT = "holdfast personal data 1"
MANIFEST = "manifest.json"
TRAIL = "audit_trail.json"

_LARGEST_MANIFEST = 4 * 2**20  # bytes
_CHUNK = 2**20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_encode = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an export: a JSON array.

    Attributes:
        rows: how many it has.
        bytes, sha256: of it.
        columns: what each is: `private`, `plain`, `key`.
        left_out: secret columns.
        kept: why these rows stay when the person is erased; None where they go.
    """

    rows: int
    bytes: int
    sha256: str
    columns: dict[str, Sort | None] = {}
    left_out: list[str] = []
    kept: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds, about whom, as of when."""

    format: str
    subject: str
    made_at: dt.datetime
    files: dict[str, Packed]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """An export that was written.

    Attributes:
        file: where.
        subject, made_at: about whom, as of when.
        files, rows: how many it has.
        sha256: of the manifest, which has the hash of every other file; it is on record.
    """

    file: str
    subject: str
    made_at: dt.datetime
    files: int
    rows: int
    sha256: str


class Exporting:
    """Writes exports."""

    def __init__(self, store: Store, trail: Trail, models: Sequence[type[Model]]) -> None:
        self._store = store
        self._trail = trail
        self._models = models

    async def write(self, subject: str, file: Path) -> Exported:
        """Write one into `file`, which must not be there; where that fails there is none.

        Raises:
            NotFound: nothing is kept of the person. InvalidValue: the file is there, or cannot be made.
        """
        try:
            # For nobody else to read; what was made is never opened for another.
            handle = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except OSError as error:
            raise InvalidValue(f"{file} cannot be written: {error.strerror}") from None
        try:
            with handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as packed:
                async with self._snapshot() as unit:
                    return await self._write(unit, subject, packed, file)
        except BaseException as error:
            file.unlink(missing_ok=True)  # noqa: ASYNC240  of its own file, once
            if isinstance(error, OSError):
                raise Unavailable(f"{file} could not be written: {error.strerror}") from None
            raise

    def _snapshot(self) -> AbstractAsyncContextManager[Unit]:
        if self._store.dialect == "sqlite":
            return self._store.read(tenant=ALL)
        return self._store.unit(tenant=ALL, isolation="repeatable read")

    async def _write(self, unit: Unit, subject: str, packed: zipfile.ZipFile, file: Path) -> Exported:
        files: dict[str, Packed] = {}
        for model, personal in personal_models(self._models):
            sorts = sorts_of(model)
            shown = {name: sort for name, sort in sorts.items() if sort != "secret"}
            name = f"rows/{model.__tablename__}.json"
            found = await _array(packed, name, _rows(unit, model, personal, subject, shown))
            files[name] = msgspec.structs.replace(
                found, columns=shown, left_out=[name for name in sorts if name not in shown], kept=personal.because
            )
        if not sum(one.rows for one in files.values()):
            raise NotFound(f"nothing is kept of {subject[:80]!r}")
        if self._trail.is_on:
            files[TRAIL] = await _array(packed, TRAIL, self._recorded(unit, subject))
        made_at = dt.datetime.now(dt.UTC)
        manifest = Manifest(format=FORMAT, subject=subject, made_at=made_at, files=files)
        written = msgspec.json.format(_encode(manifest), indent=2)
        packed.writestr(MANIFEST, written)
        return Exported(
            file=str(file),
            subject=subject,
            made_at=made_at,
            files=len(files),
            rows=sum(one.rows for one in files.values()),
            sha256=hashlib.sha256(written).hexdigest(),
        )

    async def _recorded(self, unit: Unit, subject: str) -> AsyncIterator[Any]:
        """The records of the trail about him, and of what he did."""
        table = self._trail.tables.records
        columns, names = table.c, Record.__struct_fields__
        his = or_(columns.actor == subject, columns.subject == subject, columns.target_id == subject)
        asked = select(*(columns[name] for name in names)).where(his).order_by(columns.tenant, columns.seq)
        records = (Record(**dict(zip(names, row, strict=True))) async for row in pages(unit, table, asked))
        box = self._trail.box
        async for part in in_parts(records):
            opened = [None] * len(part) if box is None else await box.open(part, unit)
            for record, private in zip(part, opened, strict=True):
                yield msgspec.structs.replace(line_of(record, _his_part(record, private, subject)), sealed=None)


def _his_part(record: Record, private: Private | None, subject: str) -> Private | None:
    """What is private in a record as far as it is his: values about him, and from where he acted."""
    if private is None:
        return None
    return {
        name: value
        for name, value in private.items()
        if owner_of(record, "values" if name == "values" else "origin") == subject
    }


def verify_export(file: Path, *, sha256: str | None = None) -> Manifest:
    """The manifest of an export, every file of which is as it says.

    Args:
        sha256: the hash of the manifest, as it is on record.

    Raises:
        InvalidValue: it is none, or a file was changed, lost or added; it says which.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            return _verified(packed, sha256)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise InvalidValue(f"{file} is no export that can be read: {error}") from None


def _verified(packed: zipfile.ZipFile, sha256: str | None) -> Manifest:
    if any(info.compress_type not in _PACKED for info in packed.infolist()):
        raise InvalidValue("it is packed in a way that no export is")  # and may take what memory there is
    there = [info.filename for info in packed.infolist()]
    if MANIFEST not in there or packed.getinfo(MANIFEST).file_size > _LARGEST_MANIFEST:
        raise InvalidValue(f"it has no {MANIFEST}, so it is no export of personal data")
    written = packed.read(MANIFEST)
    if sha256 is not None and hashlib.sha256(written).hexdigest() != sha256.strip().lower():
        raise InvalidValue(f"its {MANIFEST} is not the one whose hash was given")
    try:
        manifest = msgspec.json.decode(written, type=Manifest)
    except msgspec.DecodeError as error:
        raise InvalidValue(f"its {MANIFEST} is none: {error}") from None
    if manifest.format != FORMAT:
        raise InvalidValue(f"its format is {manifest.format[:60]!r}, and this program knows {FORMAT!r}")
    expected = {MANIFEST, *manifest.files}
    if len(there) != len(set(there)) or set(there) != expected:
        odd = sorted({*expected.symmetric_difference(there), *(name for name in there if there.count(name) > 1)})
        raise InvalidValue(f"its files are not those of its manifest: {', '.join(odd)[:300]}")
    for name, told in manifest.files.items():
        if packed.getinfo(name).file_size != told.bytes:
            raise InvalidValue(
                f"{name} was changed: it has {packed.getinfo(name).file_size:,} bytes, not {told.bytes:,}"
            )
        found = hashlib.sha256()
        with packed.open(name) as content:
            while chunk := content.read(_CHUNK):
                found.update(chunk)
        if found.hexdigest() != told.sha256:
            raise InvalidValue(f"{name} was changed: its hash is not the one of the manifest")
    return manifest


async def _array(packed: zipfile.ZipFile, name: str, items: AsyncIterator[Any]) -> Packed:
    """Write what comes as a JSON array, one item a line."""
    size, count, found = 0, 0, hashlib.sha256()
    with packed.open(name, "w", force_zip64=True) as target:

        def put(data: bytes) -> None:
            nonlocal size
            size += len(data)
            found.update(data)
            target.write(data)

        put(b"[")
        async with contextlib.aclosing(items):  # type: ignore[type-var]
            async for item in items:
                put((b",\n" if count else b"\n") + _encode(item))
                count += 1
        put(b"\n]\n")
    return Packed(rows=count, bytes=size, sha256=found.hexdigest())


async def _rows(
    unit: Unit, model: type[Model], personal: Personal, subject: str, shown: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    columns = [column for column in table_of(model).columns if column.name in shown]
    keys = len(key_of(model).columns)
    asked = rows_of(model, personal, subject, *columns)
    if asked is None:
        return
    async for row in pages(unit, table_of(model), asked):
        yield {str(column.name): _shown(value) for column, value in zip(columns, row[keys:], strict=True)}


def _shown(value: Any) -> Any:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value
