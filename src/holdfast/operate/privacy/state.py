"""What the security checklist says of privacy: whether everything is classified, and erasures get to their end."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence

from holdfast.model import Model
from holdfast.operate.findings import Finding
from holdfast.operate.privacy.classified import examine_privacy
from holdfast.operate.privacy.erasures import erasures, is_there
from holdfast.operate.privacy.rows import personal_models
from holdfast.store import Store

LATE = dt.timedelta(days=1)
"""How long an erasure may take: the journal forgets in an hour or two."""

_CHECK = "erasures"


def summary_of(models: Sequence[type[Model]]) -> Finding:
    """What is to be said of the classification, in one finding."""
    lacking = [finding for finding in examine_privacy(models) if finding.state != "ok"]
    if not lacking:
        return Finding.ok("classification", "every column has its sort")
    told = f"{lacking[0].detail}" + (f"; and {len(lacking) - 1} more" if lacking[1:] else "")
    return Finding.note("classification", told, "see `holdfast privacy check`")


async def examine_erasures(store: Store, models: Sequence[type[Model]]) -> AsyncIterator[Finding]:
    """What is to be said of erasures; nothing where no model is about people."""
    if not personal_models(models):
        return
    if not await is_there(store):
        yield Finding.note(_CHECK, "the database has no log of erasures yet", "holdfast migrate up")
        return
    left = await erasures(store, is_open=True)
    failed = [one for one in left if one.failure]
    late = [one for one in left if dt.datetime.now(dt.UTC) - one.asked_at > LATE]
    if failed:
        told = f"{len(failed)} failed when they were last tried"
        yield Finding.wrong(_CHECK, told, "see `holdfast privacy erasures --open`")
    elif late:
        told = f"{len(late)} were asked for over a day ago, and are not done"
        yield Finding.wrong(_CHECK, told, "have `holdfast work` run; see `holdfast privacy erasures --open`")
    else:
        yield Finding.ok(_CHECK, f"{len(left)} under way")
