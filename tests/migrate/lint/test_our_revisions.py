"""Revisions that Holdfast's runner runs: judged as it runs them, and told in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.migrate import writer
from holdfast.migrate.lint import Finding, lint_path, lint_paths
from holdfast.store import Store
from tests.migrate.versions import fill, first, migrations, second, write
from torture import migrate_models

STEPS = "transactional = False"
POST = "phase = 'post'"
PRE = "phase = 'pre'"


def errors(path: Path) -> list[Finding]:
    return [finding for finding in lint_path(path) if finding.level == "error"]


def line_of(finding: Finding) -> str:
    return Path(finding.file).read_text().splitlines()[finding.line - 1]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The text differs by dialect alone."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


async def test_what_migrate_new_writes_is_safe_but_for_what_it_leaves_to_a_person(store: Store, folder: Path) -> None:
    begun = migrations(store, folder, first())
    await writer.write_new(begun, "Begin")
    assert lint_path(folder) == []
    grown = migrations(store, folder, second())
    assert len((await writer.write_new(grown, "More")).paths) == 5
    assert {finding.rule for finding in lint_path(folder)} == {"unfinished-migration"}
    fill(folder)
    assert {finding.rule for finding in lint_path(folder)} == {"update-all-rows"}


async def test_a_column_that_a_person_must_fill_is_said_to_be_unfinished(store: Store, folder: Path) -> None:
    await writer.write_new(migrations(store, folder, first()), "Begin")
    table = second().tables["agents"]
    title = table.c.title.server_default
    table.c.title.server_default = None
    try:
        await writer.write_new(migrations(store, folder, second()), "More")
    finally:
        table.c.title.server_default = title
    [finding] = lint_path(folder)
    assert (finding.rule, finding.level) == ("unfinished-migration", "error")
    assert finding.file.endswith("0004_more_tighten.py")
    assert "fill agents.title before it is made NOT NULL" in finding.message
    assert "raise NotImplementedError" in line_of(finding)


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_the_migrations_that_are_tortured_are_safe(tmp_path: Path, dialect: str) -> None:
    migrate_models.write(tmp_path / "migrations")
    assert lint_path(tmp_path / "migrations") == []  # type: ignore[arg-type]


# What a person writes instead, and the operation that the fix must name.
UNSAFE = [
    ("", "op.create_index('i', 'a', ['n'])", "create-index", "op.create_index('i', 'a', ['n'], postgresql_conc"),
    (
        "",
        "op.create_index('i', 'accounts', ['name'], unique=True)",
        "create-index",
        "unique=True, postgresql_concurrently=True)  # in a migration with transactional = False",
    ),
    ("", "op.drop_index('i', 'a')", "drop-index", "op.drop_index('i', table_name=…, postgresql_concurrently=True)"),
    (
        "",
        "op.create_foreign_key('f', 'accounts', 'regions', ['r'], ['id'])",
        "add-foreign-key",
        "op.create_foreign_key('f', 'accounts', 'regions', ['r'], […], postgresql_not_valid=True)\n"
        "op.validate_constraint('accounts', 'f')",
    ),
    ("", "op.alter_column('accounts', 'n', nullable=False)", "set-not-null", "op.set_not_null('accounts', 'n')"),
    (
        "",
        "op.create_unique_constraint('u', 'accounts', ['a', 'b'])",
        "add-unique-constraint",
        "op.add_unique('u', 'accounts', ['a', 'b'])",
    ),
    (
        "",
        "op.create_check_constraint('c', 'accounts', 'n > 0')",
        "add-check-constraint",
        "'n > 0', postgresql_not_valid=True)\nop.validate_constraint('accounts', ",
    ),
    (
        "",
        "op.create_check_constraint('c', 'a', 'n > 0', postgresql_not_valid=True); op.execute('ALTER TABLE a VALIDATE"
        " CONSTRAINT ck_a_c')",
        "validate-in-same-transaction",
        "op.validate_constraint('a', 'ck_a_c')",
    ),
    (
        "",
        "with op.batch_alter_table('accounts') as batch: batch.alter_column('n', type_=sa.BigInteger())",
        "alter-column-type",
        "op.add_column('accounts', sa.Column('n_new', …))",
    ),
    ("", "op.execute('UPDATE accounts SET n = 0')", "update-all-rows", "a backfill"),
    (STEPS, "op.execute('DELETE FROM accounts')", "delete-all-rows", "a backfill"),
    (POST, "op.alter_column('a', 'n', new_column_name='m')", "rename-column", "op.add_column('a', sa.Column('m'"),
    (POST, "op.rename_table('accounts', 'users')", "rename-table", "CREATE VIEW accounts"),
    (
        "",
        "op.add_column('accounts', sa.Column('m', sa.Integer(), nullable=False))",
        "add-column-not-null",
        "op.set_not_null('accounts', 'm')",
    ),
    (
        "",
        "op.add_column('accounts', sa.Column('m', sa.Integer(), unique=True))",
        "add-unique-constraint",
        "op.add_unique('uq_accounts_m', 'accounts', ['m'])",
    ),
    (
        "",
        "op.add_column('accounts', sa.Column('m', sa.Uuid(), server_default=sa.text('gen_random_uuid()')))",
        "add-column-volatile-default",
        "op.add_column('accounts', sa.Column('m', …, nullable=True))",
    ),
    (PRE, "op.drop_column('accounts', 'old')", "drop-column", 'phase = "post"'),
    ("", "op.drop_table('accounts')", "drop-table", 'phase = "post"'),
    ("", "op.execute('DROP VIEW names')", "drop-view", 'phase = "post"'),
    (POST, "op.set_not_null('accounts', 'n')", "needs-steps", "transactional = False"),
    ("", "op.add_unique('u', 'accounts', ['n'])", "needs-steps", "transactional = False"),
    ("", "op.validate_constraint('accounts', 'c')", "needs-steps", "transactional = False"),
    (PRE, "op.create_index('i', 'a', ['n'], postgresql_concurrently=True)", "needs-steps", "transactional = False"),
    (PRE, "with op.get_context().autocommit_block(): op.execute('SELECT 1')", "needs-steps", "transactional = False"),
    (
        STEPS,
        "op.execute('CREATE INDEX CONCURRENTLY i ON a (n)')",
        "concurrently-in-transaction",
        "op.create_index('i', 'a', ['n'], postgresql_concurrently=True)",
    ),
    (STEPS, "op.create_index('i', 'a', ['n'])", "create-index", "postgresql_concurrently=True"),
]  # fmt: skip


def test_what_the_program_that_still_runs_may_leave_empty_is_not_null_after_the_deployment(folder: Path) -> None:
    body = "op.set_not_null('accounts', 'n')"
    [finding] = lint_path(write(folder, "a", body, more=STEPS))
    assert (finding.rule, finding.level) == ("not-null-before-deployment", "error")
    assert body in line_of(finding)
    assert 'phase = "post"' in finding.fix
    allowed = f"# holdfast: allow not-null-before-deployment because every release writes it\n    {body}"
    assert lint_path(write(folder, "a", allowed, more=STEPS)) == []
    assert lint_path(write(folder, "a", body, more=f"{STEPS}\n{POST}")) == []


def test_a_column_with_a_default_may_be_not_null_before_the_deployment(folder: Path) -> None:
    column = "op.add_column('accounts', sa.Column('n', sa.Integer(), server_default='1'))"
    body = f"{column}; op.set_not_null('accounts', 'n')"
    assert lint_path(write(folder, "a", body, more=STEPS), dialect="postgresql") == []
    body = body.replace("; ", "; op.alter_column('accounts', 'n', server_default=None); ")
    [finding] = lint_path(write(folder, "a", body, more=STEPS), dialect="postgresql")
    assert finding.rule == "not-null-before-deployment"


@pytest.mark.parametrize(("more", "body", "rule", "fix"), UNSAFE)
def test_what_is_unsafe_is_an_error_whose_fix_is_our_operation(
    folder: Path, more: str, body: str, rule: str, fix: str
) -> None:
    write(folder, "0001_begin", "op.capture('others', key={'id': 'uuid'})")
    path = write(folder, "0002_more", body, follows="0001_begin", more=more)
    [finding] = errors(folder)
    assert (Path(finding.file), finding.rule) == (path, rule)
    assert body in line_of(finding)
    assert fix in finding.fix
    assert errors(path) == [finding]  # by itself too, for its folder says whose it is
    allowed = path.read_text().replace(f"    {body}", f"    # holdfast: allow {rule} because it is small\n    {body}")
    path.write_text(allowed)
    assert errors(folder) == []


@pytest.mark.parametrize("body", ["op.drop_column('a', 'n')", "op.drop_table('a')", "op.execute('DROP VIEW v')"])
def test_dropping_is_safe_when_no_program_from_before_is_left(folder: Path, body: str) -> None:
    path = write(folder, "a", body, more=POST)
    assert lint_path(path) == []
    assert lint_path(path, dialect="sqlite") == []
    write(folder, "a", body, more=PRE)
    assert [finding.level for finding in lint_path(path)] == ["error"]
    write(folder, "a", body)  # in a folder of which nothing says who runs it
    assert [finding.level for finding in lint_path(path)] == ["warning" if "VIEW" in body else "error"]


def test_dropping_with_cascade_is_an_error_in_every_phase(folder: Path) -> None:
    path = write(folder, "a", "op.execute('DROP TABLE a CASCADE')", more=POST)
    assert [finding.rule for finding in lint_path(path)] == ["drop-cascade"]


def test_in_steps_each_operation_is_a_transaction_of_its_own(folder: Path) -> None:
    body = "op.alter_column('a', 'n', server_default='1')\n    op.execute('UPDATE a SET n = 1 WHERE id < 1000')"
    assert lint_path(write(folder, "a", body, more=STEPS)) == []
    assert [finding.rule for finding in lint_path(write(folder, "a", body, more=PRE))] == ["work-under-lock"]


def test_a_batch_in_steps_is_refused_as_the_runner_refuses_it(folder: Path) -> None:
    body = "with op.batch_alter_table('a') as batch: batch.add_column(sa.Column('n', sa.Integer()))"
    [finding] = lint_path(write(folder, "a", body, more=STEPS))
    assert "cannot be taken up again" in finding.message
    assert lint_path(write(folder, "a", body, more=PRE)) == []


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_partitions_that_are_made_ahead_block_nobody(folder: Path, dialect: str) -> None:
    path = write(folder, "a", "op.create_partitions('a', by='at')")
    assert lint_path(path) == []  # type: ignore[arg-type]


def test_beside_sql_a_revision_of_which_nothing_says_who_runs_it_is_somebody_elses(folder: Path) -> None:
    path = write(folder, "b", "op.drop_table('a')")
    (folder / "a.sql").write_text("TRUNCATE a")
    assert [finding.fix[:14] for finding in lint_path(path)] == ["-- holdfast: a"]
    [ours] = lint_paths([path], ours=True)
    assert ours.fix.startswith('phase = "post"')


def test_a_file_is_called_after_itself_where_it_has_no_name(folder: Path) -> None:
    folder.mkdir()
    body = "from alembic import op\ndown_revision = {}\nphase = 'pre'\ndef upgrade():\n    op.drop_table('a')\n"
    (folder / "b.py").write_text(body.format("None"))
    (folder / "a.py").write_text(body.format("'b'"))
    assert [Path(finding.file).name for finding in lint_path(folder)] == ["b.py", "a.py"]
