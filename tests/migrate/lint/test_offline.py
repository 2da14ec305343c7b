"""Somebody else's revisions, rendered without their database and without their environment."""

import sys
from pathlib import Path

import pytest

from holdfast.migrate.lint import lint_path, lint_paths
from tests.migrate.lint.test_files import revision

ASKING = [
    "if not op.get_bind().execute(sa.text('SELECT 1')).fetchall(): op.drop_table('a')",
    "if op.get_bind().execute(sa.select(sa.literal(1))).scalar() is None: op.drop_table('a')",
    "if op.get_bind().scalar(sa.text(' select 1')) is None: op.drop_table('a')",
    "if not list(op.get_bind().scalars(sa.text('SELECT 1'))): op.drop_table('a')",
    "if not op.get_bind().execute(sa.text('SELECT 1')).mappings().first(): op.drop_table('a')",
    "if not sa.inspect(op.get_bind()).has_table('b'): op.drop_table('a')",
    "if 'c' not in [c['name'] for c in sa.inspect(op.get_bind()).get_columns('b')]: op.drop_table('a')",
]


def levels(path: Path) -> list[tuple[int, str, str]]:
    return [(finding.line, finding.rule, finding.level) for finding in lint_path(path)]


@pytest.mark.parametrize("body", ASKING)
def test_what_asks_the_database_is_looked_at_as_on_an_empty_one_and_that_is_said(tmp_path: Path, body: str) -> None:
    expected = {(11, "migration-not-rendered", "warning"), (11, "drop-table", "error")}
    assert set(levels(revision(tmp_path, "one", body))) == expected


@pytest.mark.parametrize("body", ASKING)
def test_in_revisions_that_holdfast_runs_it_stays_an_error(tmp_path: Path, body: str) -> None:
    path = revision(tmp_path, "one", body)
    assert ("migration-not-rendered", "error") in {
        (finding.rule, finding.level) for finding in lint_paths([path], ours=True)
    }


@pytest.mark.parametrize(
    "body",
    [
        "op.get_bind().execute(sa.text('SELECT 1')).scalar_one()",
        "sa.inspect(op.get_bind()).clear_cache()",
        "op.get_bind().execute(sa.text('SELECT 1')).scalar() + 1",
    ],
)
def test_what_an_empty_database_cannot_answer_ends_the_rendering(tmp_path: Path, body: str) -> None:
    assert (11, "migration-not-rendered", "error") in levels(revision(tmp_path, "one", body))


def test_what_only_writes_asks_nothing(tmp_path: Path) -> None:
    body = """op.get_bind().execute(sa.text("INSERT INTO a VALUES (1)"))
with op.get_bind().begin():
    op.get_bind().execute(sa.text("UPDATE a SET b = 1 WHERE id = 1"))"""
    assert levels(revision(tmp_path, "one", body)) == []


def test_a_transaction_that_the_revision_ends_itself_is_over(tmp_path: Path) -> None:
    lines = [
        'op.create_check_constraint("c", "b", "n > 0", postgresql_not_valid=True)',
        "op.get_bind().commit()",
        'op.execute("ALTER TABLE b VALIDATE CONSTRAINT c")',
    ]
    assert levels(revision(tmp_path, "one", "\n".join(lines))) == []
    del lines[1]
    assert levels(revision(tmp_path, "two", "\n".join(lines))) == [(12, "validate-in-same-transaction", "error")]


def test_a_type_of_a_package_that_is_not_here_is_taken_for_a_type(tmp_path: Path) -> None:
    top = "import no_such_types\nfrom no_such_types.more import Shape, Colour\nimport no_such_thing.unused\n"
    body = """op.add_column("b", sa.Column("shape", Shape(3, srid=1), nullable=True))
op.add_column("b", sa.Column("colour", no_such_types.more.Colour(), nullable=False))
op.create_table("n", sa.Column("shape", Shape))"""
    assert levels(revision(tmp_path, "one", body, top=top)) == [(15, "add-column-not-null", "error")]
    assert not [name for name in sys.modules if name.startswith("no_such")]


@pytest.mark.parametrize(
    "top",
    [
        "from no_such_models import Author\nAuthor.__table__.columns\n",
        "import sqlalchemy.no_such_part\n",  # of a package that is here
        "import holdfast.no_such_part\n",
    ],
)
def test_what_is_no_type_and_is_missing_ends_the_rendering(tmp_path: Path, top: str) -> None:
    [finding] = lint_path(revision(tmp_path, "one", "op.execute('SELECT 1')", top=top))
    assert (finding.rule, finding.level) == ("migration-not-rendered", "error")


def test_what_a_library_finds_missing_stays_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probing = "try:\n    import no_such_extra\nexcept ImportError:\n    no_such_extra = None\n"
    (tmp_path / "probing.py").write_text(probing)
    monkeypatch.chdir(tmp_path)
    body = "import probing\nif probing.no_such_extra is None: op.drop_table('a')"
    assert levels(revision(tmp_path, "one", body)) == [(12, "drop-table", "error")]
