"""How the schema moves: by migrations where there are some, else by making what is missing."""

from holdfast.migrate.additive import Difference, make_missing, migrate_up, pending, unsound
from holdfast.migrate.backfills import Failure, Into, Progress, Report, backfill
from holdfast.migrate.factory import Factory
from holdfast.migrate.files import MigrationFile
from holdfast.migrate.fleet import FleetReport, migrate_fleet
from holdfast.migrate.hooks import Planned, before_migrate
from holdfast.migrate.limits import Limits
from holdfast.migrate.planting import Planted, plant, stable_id
from holdfast.migrate.runner import Done, Migrations
from holdfast.migrate.seeds import Sowing, Sown, seed, sow
from holdfast.migrate.selection import Status

__all__ = [
    "Difference",
    "Done",
    "Factory",
    "Failure",
    "FleetReport",
    "Into",
    "Limits",
    "MigrationFile",
    "Migrations",
    "Planned",
    "Planted",
    "Progress",
    "Report",
    "Sowing",
    "Sown",
    "Status",
    "backfill",
    "before_migrate",
    "make_missing",
    "migrate_fleet",
    "migrate_up",
    "pending",
    "plant",
    "seed",
    "sow",
    "stable_id",
    "unsound",
]
