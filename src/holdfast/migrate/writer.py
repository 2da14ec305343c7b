"""`holdfast migrate new`: from what the models have and the migrations lack to files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from alembic.operations import ops
from sqlalchemy import Connection

from holdfast.errors import MigrationError
from holdfast.journal.capture import captured_tables
from holdfast.migrate import files, generate, phases
from holdfast.migrate.comparison import missed
from holdfast.migrate.inspection import Replayed, declared, replay, undeclared
from holdfast.migrate.runner import Migrations
from holdfast.migrate.schema import Schema, read
from holdfast.migrate.scratch import scratch
from holdfast.migrate.search import search_changes
from holdfast.store import Monthly


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        paths: the new files, in the order in which they are to be run.
        unfilled: `table.column` of columns for whose rows a person must say the value, in a file that refuses to run.
        unfilled_back: the same for the way back, when columns come back without what they held.
        rewrites: `table.column` of columns whose change of type rewrites the table on PostgreSQL.
        left: differences from the models that the files do not remove, a line each.
    """

    paths: tuple[Path, ...]
    unfilled: tuple[str, ...] = ()
    unfilled_back: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


async def write_empty(migrations: Migrations, title: str) -> Written:
    """Write a migration that does nothing yet."""
    known = migrations.files()
    name = files.next_name(known, title)
    text = generate.text_of(
        name, title, _newest(known), phase="pre", transactional=True, up="    pass", down="    pass", used=set()
    )
    return Written(paths=(generate.write(migrations.folder, name, text),))


async def write_new(migrations: Migrations, title: str) -> Written:
    """Write what brings the migrations to the models, in up to five files; none when there is nothing to write.

    Raises:
        MigrationError: a migration fails in the scratch, one that is there or a new one; nothing is then written.
    """
    known = migrations.files()
    wanted = await declared(migrations)
    async with scratch(migrations.store) as connection:
        made = await replay(connection, known)
        drafts, plan = await connection.run_sync(_drafts, migrations, made, wanted)
    texts = _texts(drafts, known, title)
    left = await _left(migrations, known, texts)
    paths = tuple(generate.write(migrations.folder, name, text) for name, text in texts.items())
    return Written(
        paths=paths,
        unfilled=tuple(plan.unfilled),
        unfilled_back=tuple(plan.unfilled_back),
        rewrites=tuple(plan.rewrites),
        left=tuple(left),
    )


async def _left(migrations: Migrations, known: Sequence[files.MigrationFile], texts: Mapping[str, str]) -> list[str]:
    """How the models will differ from what all migrations make, a line each; the new ones are run in a scratch.

    Raises:
        MigrationError: a new one fails there.
    """
    with TemporaryDirectory() as folder:
        # Nobody has said yet what the rows get, and a scratch has none.
        tried = {
            name: re.sub(r"^ +raise NotImplementedError\(.fill .*\n", "", text, flags=re.M)
            for name, text in texts.items()
        }
        new = [files.read_file(generate.write(Path(folder), name, text)) for name, text in tried.items()]
        trial = Migrations(
            migrations.store,
            Path(folder),
            metadatas=migrations.metadatas,
            models=migrations.models,
            known=[*known, *new],
        )
        try:
            return await undeclared(trial)
        except MigrationError as error:
            if not new:
                raise
            raise MigrationError(
                f"nothing was written, for what was to be written does not run: {error}; write it yourself"
                " (`holdfast migrate new --empty TITLE`)"
            ) from error


def _texts(drafts: Sequence[_Draft], known: Sequence[files.MigrationFile], title: str) -> dict[str, str]:
    """The texts of the new migrations by name, in order."""
    texts: dict[str, str] = {}
    newest = _newest(known)
    number = int(files.next_name(known, title).partition("_")[0])
    for draft in drafts:
        _, _, words = files.next_name((), f"{title}{draft.suffix if len(drafts) > 1 else ''}").partition("_")
        name = f"{number + len(texts):04d}_{words}"
        texts[name] = generate.text_of(
            name,
            title,
            newest,
            phase=draft.phase,
            transactional=draft.transactional,
            up=draft.up,
            down=draft.down,
            used=draft.used,
        )
        newest = name
    return texts


class _Draft(msgspec.Struct, kw_only=True):
    suffix: str
    phase: files.Phase
    transactional: bool
    up: str
    down: str
    used: set[str]


def _drafts(
    connection: Connection, migrations: Migrations, replayed: Replayed, wanted: Schema
) -> tuple[list[_Draft], phases.Plan]:
    alembic = generate.compare(connection, migrations.metadatas)
    found = missed(connection, alembic, read(connection), wanted, migrations.metadatas)
    parted = {model.__tablename__ for model in migrations.models if model.__policy__.aspect(Monthly) is not None}
    plan = phases.arrange(found, parted)
    generate.amounts_of(plan)
    generate.unchecks(connection, plan)
    dropped = [operation.table_name for operation in found if isinstance(operation, ops.DropTableOp)]
    made = [operation.table_name for operation in found if isinstance(operation, ops.CreateTableOp)]
    plan.expand += generate.partitions_of(migrations.models, made)
    plan.expand += generate.capture_changes(replayed.captured, captured_tables(migrations.models), dropped)
    search_changes(plan, replayed.searches, migrations.models, found)
    parts: list[tuple[str, files.Phase, bool, Sequence[ops.MigrateOperation]]] = [
        ("", "pre", True, plan.expand),
        (" build", "pre", False, plan.build),
        (" tighten", "post", False, plan.tighten),
        # Before the columns that they name: taken back, they come after those.
        (" drop indexes", "post", False, plan.drop_indexes),
        (" contract", "post", True, plan.contract),
    ]
    drafts = []
    for suffix, phase, transactional, operations in parts:
        if not operations:
            continue
        up, used = generate.render(operations, connection)
        back = generate.reversed_operations(operations)
        plan.unfilled_back += generate.unfilled(back)
        down, used_down = generate.render(back, connection)
        if suffix == " tighten":
            up = _fill(plan.unfilled) + up
        drafts.append(
            _Draft(
                suffix=suffix,
                phase=phase,
                transactional=transactional,
                up=up,
                down=down,
                used=used | used_down,
            )
        )
    return drafts, plan


def _fill(columns: Sequence[str]) -> str:
    return "".join(
        f"    # Rows may have no {column}, also those that the old program wrote meanwhile: fill them\n"
        "    # (`holdfast.migrate.backfill`), then remove this.\n"
        f'    raise NotImplementedError("fill {column} before it is made NOT NULL")\n'
        for column in columns
    )


def _newest(known: Sequence[files.MigrationFile]) -> str | None:
    return known[-1].revision if known else None
