"""Data migrations: every row of a table read, changed and written in short transactions, beside whoever else writes."""

from holdfast.migrate.backfills.report import Failure, Progress, Report
from holdfast.migrate.backfills.run import backfill
from holdfast.migrate.backfills.writing import Into

__all__ = ["Failure", "Into", "Progress", "Report", "backfill"]
