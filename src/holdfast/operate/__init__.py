"""How a data layer is kept well."""

from holdfast.operate.health import Examiner, Finding, Report
from holdfast.operate.rhythm import CatchUp
from holdfast.operate.schedule_runs import LostSchedule, Run, ScheduleRunner
from holdfast.operate.schedule_table import PastRun, ScheduleState, ScheduleTable
from holdfast.operate.schedule_table import metadata as schedule_metadata
from holdfast.operate.schedules import Schedule, Schedules, Work, registered, scheduled
from holdfast.operate.worker import Piece, Source, Worker

__all__ = [
    "CatchUp",
    "Examiner",
    "Finding",
    "LostSchedule",
    "PastRun",
    "Piece",
    "Report",
    "Run",
    "Schedule",
    "ScheduleRunner",
    "ScheduleState",
    "ScheduleTable",
    "Schedules",
    "Source",
    "Work",
    "Worker",
    "registered",
    "schedule_metadata",
    "scheduled",
]
