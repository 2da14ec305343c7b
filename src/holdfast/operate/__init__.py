"""How a data layer is kept well."""

from holdfast.operate.findings import Finding, Report
from holdfast.operate.health import Examiner
from holdfast.operate.isolation import Isolation, Leak, examine_isolation
from holdfast.operate.redis import drop_our_keys, examine_redis
from holdfast.operate.redis_state import AppendLog, RedisReport, RedisServer, Snapshots, Unreachable
from holdfast.operate.reviews import REVIEWS, Review, Reviewed, last_reviews, record_review
from holdfast.operate.reviews import metadata as review_metadata
from holdfast.operate.rhythm import CatchUp
from holdfast.operate.schedule_runs import LostSchedule, Run, ScheduleRunner
from holdfast.operate.schedule_table import PastRun, ScheduleState, ScheduleTable
from holdfast.operate.schedule_table import metadata as schedule_metadata
from holdfast.operate.schedules import Schedule, Schedules, Work, registered, scheduled
from holdfast.operate.security import examine_security
from holdfast.operate.worker import Piece, Source, Worker

__all__ = [
    "REVIEWS",
    "AppendLog",
    "CatchUp",
    "Examiner",
    "Finding",
    "Isolation",
    "Leak",
    "LostSchedule",
    "PastRun",
    "Piece",
    "RedisReport",
    "RedisServer",
    "Report",
    "Review",
    "Reviewed",
    "Run",
    "Schedule",
    "ScheduleRunner",
    "ScheduleState",
    "ScheduleTable",
    "Schedules",
    "Snapshots",
    "Source",
    "Unreachable",
    "Work",
    "Worker",
    "drop_our_keys",
    "examine_isolation",
    "examine_redis",
    "examine_security",
    "last_reviews",
    "record_review",
    "registered",
    "review_metadata",
    "schedule_metadata",
    "scheduled",
]
