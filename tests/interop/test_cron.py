"""Our cron against Node's cron-parser itself: which patterns it reads, and when they come next.

A queue's next job is made by whichever worker claims the present one, in whatever language it is
written: a difference here would move jobs, or run them twice.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sandboxq.errors import UsageError
from sandboxq.schedule import cron
from sandboxq.schedule.wall_clock import zone_named
from tests.interop.node_install import NODE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.node_install import NodeTools

ZONES = [
    *("Europe/Berlin", "America/New_York", "Africa/Casablanca", "America/Sao_Paulo"),
    # Half an hour; at midnight; by two hours; by whole hours of an odd offset.
    *(
        "Australia/Lord_Howe",
        "America/Havana",
        "Asia/Beirut",
        "Antarctica/Troll",
        "Pacific/Chatham",
    ),
]
# Clocks that go back by less than an hour, or not at a full one, lead Node's search astray.
NODE_GOES_ASTRAY = ("Australia/Lord_Howe", "Pacific/Chatham")
YEARS = (2024, 2028)
MORE_YEARS = (2015, 2034)
PATTERNS = [
    *("0 30 2 * * *", "0 0 2 * * *", "0 0 3 * * *", "0 30 3 * * *", "0 15 1 * * *"),
    *("0 30 0 * * *", "0 0 0 * * *", "0 45 1,2 * * *", "0 */20 2 * * *", "0 */20 1-3 * * *"),
    *("0 */15 * * * *", "30 * * * * *", "*/20 59 * * * *", "0 0 */2 * * *", "0 0 * * * *"),
    *("0 0 9 * * 1-5", "5 5 5 1 * 1", "0 30 2 L * *", "0 30 2 * * 0L", "0 30 1 * * SUN#1"),
    *("0 0 1,23 * * *", "0 10 0,23 * * *", "0 0 4-22 * * *", "15 30 22 1 */3 *", "@daily"),
    *("*/10 1-2 * * *", "59 59 23 * * *", "H H H * * *", "0 H(10-30)/7 2 * * *"),
]
# Seconds before and after each change of the clocks.
DISTANCES = [
    *(-172_800, -86_400, -40_000, -7_200, -5_400, -3_600, -3_599, -1_800, -60, -1),
    *(0, 1, 600, 1_800, 2_700, 3_600, 5_400, 7_200),
]
# Three digits of a second, as Date.now() has them.
MILLISECONDS = [0, 0, 1, 500, 999]


class Question(NamedTuple):
    """What Node and we are both asked."""

    pattern: str
    zone: str
    after_ms: int
    seed: str = ""


@pytest.fixture(scope="module")
def ask_node(
    node_tools: NodeTools, node_modules: Path
) -> Callable[[list[Question]], list[int | str]]:
    """Return what asks cron-parser: a time (ms) or the text of an error for each question."""

    def ask(questions: list[Question]) -> list[int | str]:
        command = [node_tools.node, str(NODE_FOLDER / "cron.mjs"), str(node_modules)]
        text = json.dumps(questions)
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        answers: list[int | str] = json.loads(run.stdout)
        return answers

    return ask


def our_answer(question: Question) -> int | str:
    """Return the time or the text of the error."""
    try:
        parsed = cron.parse(question.pattern, seed=question.seed)
        found = parsed.next_ms(question.after_ms, zone_named(question.zone))
    except UsageError as error:
        return str(error)
    return "never" if found is None else found


def transitions(zone_name: str, years: tuple[int, int]) -> Iterator[int]:
    """Yield the seconds since the epoch at which the clocks of a zone change in these years."""
    zone, day = zone_named(zone_name), 86_400
    begin, end = (int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) for year in years)

    def offset(at: int) -> dt.timedelta | None:
        return dt.datetime.fromtimestamp(at, zone).utcoffset()

    for before in range(begin, end, 3 * day):
        low, high = before, before + 3 * day
        if offset(low) == offset(high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
        yield high


@pytest.mark.timeout(240)  # many questions to both, on a machine that may be busy
@pytest.mark.parametrize("years", [YEARS, pytest.param(MORE_YEARS, marks=pytest.mark.slow)])
def test_clocks_that_change(ask_node: Callable[..., Any], years: tuple[int, int]) -> None:
    """Every change of the clocks in these zones in these years, before, at and after it."""
    chance = random.Random(5)
    questions = [
        Question(pattern, zone, (at + distance) * 1000 + chance.choice(MILLISECONDS), zone)
        for zone in ZONES
        for at in transitions(zone, years)
        for pattern in chance.sample(PATTERNS, 3)
        for distance in chance.sample(DISTANCES, 3)
    ]
    theirs = ask_node(questions)
    astray = 0
    for question, their in zip(questions, theirs, strict=True):
        our = our_answer(question)
        if isinstance(their, str) or their <= question.after_ms:
            # A chain of Node's would end here, or make jobs without a pause.
            assert question.zone in NODE_GOES_ASTRAY
            assert isinstance(our, int)
            assert our > question.after_ms
            astray += 1
        else:
            assert our == their, (question, our, their)
    assert len(questions) > 100 * (years[1] - years[0])
    assert astray < 40


def test_patterns(ask_node: Callable[..., Any]) -> None:
    """What one side reads and the other refuses would end a chain at the next claim."""
    chance = random.Random(6)
    zones = ["Europe/Berlin", "America/New_York", "UTC", "UTC+5:30", "europe/paris"]
    questions = [
        Question(
            pattern,
            chance.choice(zones),
            chance.randrange(1_577_836_800_000, 2_051_222_400_000),
            chance.choice(["seed", "größe🙂", "x"]),
        )
        for pattern in [*ODD_PATTERNS, *(_random_pattern(chance) for _ in range(1500))]
    ]
    read = 0
    for question, their in zip(questions, ask_node(questions), strict=True):
        our = our_answer(question)
        if isinstance(their, str):
            assert isinstance(our, str), (question, our, their)
        else:
            assert our == their, (question, our, their)
            read += 1
    assert len(questions) // 4 < read < len(questions)


ODD_PATTERNS = [
    *("@yearly", "@annually", "@monthly", "@weekly", "@Daily", "@every", "@weekdays", "@weekends"),
    *("@secondly", "@minutely", "@hourly", "@reboot", " 0  0 3 * * *  ", "0\t0 * * * *", "5"),
    *("0 0 0 29 2 *", "0 0 0 31 2,4 *", "0 0 0 31 4 *", "0 0 0 30 2 *", "0 0 0 * 2 1#5", "3 4 5"),
    *("0 0 0 30 2 1", "* " * 600, "0 0 0 1-31 * 1", "0 0 0 */2 * 1", "0 0 0 ? * MON", "1 2"),
]
_TIMES = [
    *(
        "*",
        "0",
        "59",
        "60",
        "5",
        "1-10",
        "10-1",
        "*/5",
        "5/10",
        "1-30/7",
        "0,30",
        "5,5",
        "H",
        "H/5",
    ),
    *("H(1-9)", "H(20-70)/6", "H(9-1)", "?", "a", "5-", "-5", "*/0", "*/", "1,", "59-59", "07"),
    *("*/61", "H/61", "5#2", "L", "1-5/2,30", "*,5", "H/0"),
]
_HOURS = ["*", "3", "*/4", "9-17", "23", "24", "*/6", "2,14"]
_DAYS = [
    *("*", "*", "1", "31", "L", "L,15", "1-31/5", "*/2", "15,L", "32", "0", "30", "H", "29-31"),
    *("?", "H(1-15)/4", "LW", "L-3", "31,30", "10/10"),
]
_MONTHS = [
    *("*", "*", "1", "12", "JAN", "jan-mar", "feb", "2", "2,4", "13", "0", "*/3", "H", "H/4"),
    *("DEC", "MON", "NOV,DEC", "feb/2", "?"),
]
_WEEKDAYS = [
    *("*", "*", "0", "7", "1-5", "5-7", "0,7", "5L", "L", "1#2", "MON", "mon-fri", "SUN#1", "?"),
    *("6-7,7", "*/2", "*/7", "5-7/2", "8", "1,3L", "MON,WED", "JAN", "7-7", "0-0", "H", "H/3"),
    *("5#6", "1-2#1", "*#2", "0#5", "5L#2", "JUL", "XYZ", "FRI-SUN", "0-7", "sunday", "1-7"),
    *("2/2", "6/1", "15L", "L5", "5#"),
]


def _random_pattern(chance: random.Random) -> str:
    def pick(odd: list[str], plain: list[str]) -> str:
        return chance.choice(odd if chance.random() < 0.3 else plain)

    fields = [pick(_TIMES, ["0", "5", "*", "*/10", "30"]) for _ in range(2)]
    fields += [pick(_TIMES, _HOURS), pick(_DAYS, ["*"]), pick(_MONTHS, ["*"])]
    fields.append(chance.choice(_WEEKDAYS))
    missing = chance.choice([0, 0, 0, 0, 0, 0, 1, 1, 3])
    return " ".join(fields[missing:])
