"""Times of a schedule: the standard five fields, and the six that Kubeflow's scheduler takes; pure."""

from __future__ import annotations

import datetime
import re
from itertools import islice

from headrace.errors import InputError

NEXT = 3
HELP = 'expected five fields, minute hour day month weekday, such as "30 2 * * 1-5"'
_FIELD = re.compile(r"[0-9A-Za-z*,/-]+")


def with_seconds(cron: str) -> str:
    """The six fields, seconds first, that mean to Kubeflow what the standard five mean; InputError otherwise.

    Given five fields, Kubeflow's scheduler would take the first for seconds. What has no star becomes a plain list of
    numbers: that scheduler knows no 7 for Sunday. A star in front stays: it decides how day and weekday combine.
    """
    from cronsim.cronsim import Field

    def numbers(place: int, field: str) -> str:
        if field.startswith("*"):
            return ",".join(term if term.startswith("*") else numbers(place, term) for term in field.split(","))
        return _listed(Field(place).parse(field), weekday=place == Field.DOW)

    return " ".join(["0", *(numbers(place, field) for place, field in enumerate(parsed(cron), start=Field.MINUTE))])


def next_times(cron: str, now: datetime.datetime) -> list[datetime.datetime]:
    """The next three times after `now`, in its zone; InputError when there are none."""
    from cronsim import CronSim, CronSimError

    fields = parsed(cron)
    try:
        found = list(islice(CronSim(" ".join(fields), now), NEXT))
    except CronSimError as error:
        raise _wrong(cron, str(error).lower()) from None
    if not found:
        raise _wrong(cron, "no such day comes")
    return found


def parsed(cron: str) -> list[str]:
    """The five fields in capitals; InputError when one is wrong, or is an extension that Kubeflow does not know."""
    from cronsim import CronSimError
    from cronsim.cronsim import FIELD_NAMES, Field

    fields = cron.upper().split()
    if len(fields) != 5:
        raise _wrong(cron, f"{len(fields)} fields")
    for place, field in enumerate(fields, start=Field.MINUTE):
        try:
            found = Field(place).parse(field)
        except CronSimError as error:
            raise _wrong(cron, f"{str(error).lower()}: {field}") from None
        if not _FIELD.fullmatch(field) or not all(isinstance(item, int) and item >= 0 for item in found):
            raise _wrong(cron, f"{field} as the {FIELD_NAMES[place]} is an extension that Kubeflow does not know")
    return fields


def _listed(found: set[int | tuple[int, int]], *, weekday: bool) -> str:
    numbers = {int(item) for item in found if isinstance(item, int)}
    return ",".join(str(n) for n in sorted({n % 7 for n in numbers} if weekday else numbers))


def _wrong(cron: str, why: str) -> InputError:
    return InputError(f"--cron {cron!r}: {why}", HELP)
