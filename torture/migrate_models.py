"""The model to which the migrations of a run lead, and the migrations themselves: one for each operation."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.model import NAMING, Amount, Model, Policy, Text
from holdfast.store import Searchable

METADATA = MetaData(naming_convention=NAMING)
FIRST = "0001_begin"


class Base(Model):
    """Everything that a run migrates."""

    __abstract__ = True
    metadata = METADATA


class Region(Base):
    """What accounts come to refer to."""

    __tablename__ = "regions"
    name: Mapped[str]


class Account(Base):
    """What is written to all the while; the writers use `id`, `name` and `n` only."""

    __tablename__ = "accounts"
    __policy__ = Policy(Searchable("name", "note"))
    __table_args__ = (
        UniqueConstraint("code"),
        Index("ix_accounts_name", "name"),
        CheckConstraint("n >= 0", name="counted"),
    )
    name: Mapped[str]
    n: Mapped[int]
    code: Mapped[str | None]
    title: Mapped[str] = mapped_column(Text(), server_default="none")
    note: Mapped[str] = mapped_column(Text(), server_default="")
    balance: Mapped[int | None] = mapped_column(Amount())
    region_id: Mapped[str | None] = mapped_column(ForeignKey("regions.id"), type_=Region.__table__.c.id.type)


STEPS = "transactional = False"
POST = 'phase = "post"'
NUMBER = "sa.Integer().with_variant(sa.BigInteger(), 'postgresql')"
CAPTURE = "op.capture('accounts', key={'id': 'uuid'})"

# (name, more, upgrade, downgrade): what each says is one operation of the guide.
MIGRATIONS: tuple[tuple[str, str, str, str], ...] = (
    (
        FIRST,
        "",
        f"""
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), server_default=database_id(), nullable=False),
        sa.Column("name", Text(), nullable=False),
        sa.Column("n", {NUMBER}, nullable=False),
        sa.Column("code", Text(), nullable=True),
        sa.Column("old", Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index("ix_accounts_old", "accounts", ["old"])
    {CAPTURE}""",
        "op.release('accounts'); op.drop_table('accounts')",
    ),
    (
        "0002_create_table",
        "",
        """
    op.create_table(
        "regions",
        sa.Column("id", sa.Uuid(), server_default=database_id(), nullable=False),
        sa.Column("name", Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regions")),
    )
    op.capture('regions', key={'id': 'uuid'})""",
        "op.release('regions'); op.drop_table('regions')",
    ),
    (
        "0003_add_column",
        "",
        "op.add_column('accounts', sa.Column('note', Text(), nullable=True))",
        "op.drop_column('accounts', 'note')",
    ),
    (
        "0004_add_column_with_default",
        "",
        "op.add_column('accounts', sa.Column('title', Text(), server_default='none', nullable=False))",
        "op.drop_column('accounts', 'title')",
    ),
    (
        "0005_add_amount",
        "",
        "op.add_column('accounts', sa.Column('balance', Amount(78), nullable=True))",
        "op.drop_column('accounts', 'balance')",
    ),
    (
        "0006_check_amounts",
        STEPS,
        "op.check_amounts('accounts', 'balance')",
        "op.uncheck_amounts('accounts', 'balance')",
    ),
    (
        "0007_index",
        STEPS,
        "op.create_index('ix_accounts_name', 'accounts', ['name'], postgresql_concurrently=True)",
        "op.drop_index('ix_accounts_name', table_name='accounts', postgresql_concurrently=True)",
    ),
    (
        "0008_unique",
        STEPS,
        "op.add_unique('uq_accounts_code', 'accounts', ['code'])",
        "op.drop_constraint('uq_accounts_code', 'accounts', type_='unique')",
    ),
    (
        "0009_check",
        "",
        "op.create_check_constraint(op.f('ck_accounts_counted'), 'accounts', 'n >= 0', postgresql_not_valid=True)",
        "op.drop_constraint(op.f('ck_accounts_counted'), 'accounts', type_='check')",
    ),
    ("0010_validate_check", STEPS, "op.validate_constraint('accounts', 'ck_accounts_counted')", "pass"),
    (
        "0011_foreign_key",
        "",
        """
    op.add_column('accounts', sa.Column('region_id', sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f('fk_accounts_region_id'), 'accounts', 'regions', ['region_id'], ['id'], postgresql_not_valid=True
    )""",
        """
    op.drop_constraint(op.f('fk_accounts_region_id'), 'accounts', type_='foreignkey')
    op.drop_column('accounts', 'region_id')""",
    ),
    ("0012_validate_foreign_key", STEPS, "op.validate_constraint('accounts', 'fk_accounts_region_id')", "pass"),
    (
        "0013_fill",
        STEPS,
        """
    op.alter_column('accounts', 'note', server_default='')
    for part in '0123456789abcdef':
        op.execute(f"UPDATE accounts SET note = '' WHERE note IS NULL AND CAST(id AS TEXT) LIKE '{part}%'")""",
        "op.alter_column('accounts', 'note', server_default=None)",
    ),
    (
        "0014_not_null",
        STEPS,
        "op.set_not_null('accounts', 'note')",
        "op.alter_column('accounts', 'note', nullable=True)",
    ),
    (
        "0015_capture",
        "",
        "op.capture('accounts', key={'id': 'uuid'}, unique=[['code']])",
        CAPTURE,
    ),
    (
        "0016_search",
        STEPS,
        "op.create_search('accounts', ['name', 'note'], concurrently=True)",
        "op.drop_search('accounts', ['name', 'note'], concurrently=True)",
    ),
    (
        "0017_drop_index",
        f"{POST}\n{STEPS}",
        "op.drop_index('ix_accounts_old', table_name='accounts', postgresql_concurrently=True)",
        "op.create_index('ix_accounts_old', 'accounts', ['old'], postgresql_concurrently=True)",
    ),
    (
        "0018_drop_column",
        POST,
        "op.drop_column('accounts', 'old')",
        "op.add_column('accounts', sa.Column('old', Text(), nullable=True))",
    ),
)  # fmt: skip


def write(folder: Path) -> None:
    """Write the migrations into `folder`."""
    folder.mkdir()
    before: str | None = None
    for name, more, up, down in MIGRATIONS:
        text = (
            f'"""{name[5:]}"""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
            "from holdfast.model import Amount, Text, database_id\n\n"
            f"revision = {name!r}\ndown_revision = {before!r}\n{more}\n\n\n"
            f"def upgrade() -> None:\n    {up.strip()}\n\n\ndef downgrade() -> None:\n    {down.strip()}\n"
        )
        (folder / f"{name}.py").write_text(text)
        before = name
