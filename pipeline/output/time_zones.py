"""Local times as folder names: time zones and local times in which two instants share a name."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lakevec.pipeline.errors import SetupError

_OFFSET = re.compile(r"(?:UTC|GMT|UT)?[+-]\d{1,2}(?::?\d{1,2}){0,2}|Z|UT|EST|MST|HST")
# Short names that Spark takes from Java's ZoneId.SHORT_IDS; EST, MST and HST are offsets there.
_SHORT = {
    "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney",
    "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo",
    "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare",
    "CNT": "America/St_Johns",
    "CST": "America/Chicago",
    "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris",
    "IET": "America/Indiana/Indianapolis",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "MIT": "Pacific/Apia",
    "NET": "Asia/Yerevan",
    "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi",
    "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico",
    "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh",
}
_FIRST_YEAR, _LAST_YEAR = 1800, 2100


@cache
def has_fixed_offset(zone: str) -> bool:
    """Return whether a time zone has one offset from UTC, so that no local time repeats.

    Parameters
    ----------
    zone : str
        As in ``spark.sql.session.timeZone``.

    Examples
    --------
    >>> has_fixed_offset("UTC"), has_fixed_offset("+02:00"), has_fixed_offset("Europe/Berlin")
    (True, True, False)
    """
    if _OFFSET.fullmatch(zone):
        return True
    rules = _find_rules(zone)
    if rules is None:
        return False
    months = (
        datetime(year, month, 1, tzinfo=UTC)
        for year in range(_FIRST_YEAR, _LAST_YEAR)
        for month in range(1, 13)
    )
    return len({month.astimezone(rules).utcoffset() for month in months}) == 1


def comes_twice(local: str, zone: str) -> bool:
    """Return whether a local time names two instants, such as in the repeated hour in autumn.

    Parameters
    ----------
    local : str
        As Spark casts timestamps to strings: ``2024-10-27 02:30:00``.
    zone : str

    Raises
    ------
    SetupError
        If Python does not know the zone.

    Examples
    --------
    >>> comes_twice("2024-10-27 02:30:00", "Europe/Berlin"), comes_twice("2024-10-27 02:30:00", "UTC")
    (True, False)
    """
    if has_fixed_offset(zone):
        return False
    rules = _find_rules(zone)
    if rules is None:
        raise SetupError(
            f"Python does not know time zone {zone!r}",
            expected="a name of the tz database",
            remedy="pip install --upgrade tzdata, or use a name such as Europe/Berlin",
        )
    try:
        moment = datetime.fromisoformat(local).replace(tzinfo=rules)
    except ValueError:  # such as a year beyond 9999
        return False
    earlier, later = (moment.replace(fold=fold).utcoffset() for fold in (0, 1))
    # In the hour that spring skips, the first offset is the smaller one.
    return (earlier or timedelta()) > (later or timedelta())


def _find_rules(zone: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(_SHORT.get(zone, zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
