"""Values as JSON has them, and back as annotations say, or an error with the place."""

from __future__ import annotations

import datetime as dt
import enum
import json
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict

import pytest

from sandboxq.errors import InvalidArguments, UnexpectedResult
from sandboxq.tasks.arguments import Arguments
from sandboxq.tasks.values import Misfit, fitted, plain


class Colour(enum.Enum):
    """An enumeration by text."""

    RED = "red"
    BLUE = "blue"


class Place(enum.Enum):
    """An enumeration by what has no hash as JSON has it."""

    HOME = (0, 0)
    WORK = (3, 4)


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: float = 0.0


class Movie(TypedDict):
    """A dict with known keys."""

    title: str
    year: NotRequired[int]


@dataclass
class Size:
    """A plain dataclass."""

    width: int
    height: int = 1


@dataclass(frozen=True)
class Order:
    """A dataclass of dataclasses, which refuses what is nonsense."""

    sizes: list[Size]
    due: dt.date | None = None
    labels: dict[str, Colour] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an order of nothing."""
        if not self.sizes:
            message = "an order needs sizes"
            raise ValueError(message)


UserId = NewType("UserId", int)

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 3),
    (float, 3),
    (bool, True),
    (str, "é"),
    (None, None),
    (Any, {"a": [1]}),
    (list[int], [1, 2]),
    (Sequence[int], [1, 2]),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "a")),
    (set[str], {"a"}),
    (frozenset[int], frozenset({1})),
    (dict[str, float], {"a": 1.5}),
    (Mapping[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}),
    (dict[UserId, str], {3: "a"}),
    (dict[bool, str], {True: "a"}),
    (dict[float | None, str], {1.5: "a", None: "b"}),
    (dict[Literal[1, 2], str], {1: "a"}),
    (dict[Annotated[int, "page"], str], {1: "a"}),
    (dict[Colour, int], {Colour.RED: 1}),
    (dict[uuid.UUID, int], {uuid.UUID(int=7): 1}),
    (Place, Place.WORK),
    (int | None, None),
    (int | str, "4"),
    (str | int, 4),
    (Literal["a", 0], 0),
    (Colour, Colour.BLUE),
    (Point, Point(1, 2.5)),
    (Movie, {"title": "M"}),
    (dt.datetime, dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC)),
    (dt.date, dt.date(2026, 11, 30)),
    (dt.timedelta, dt.timedelta(seconds=1.5)),
    (uuid.UUID, uuid.UUID(int=7)),
    (Decimal, Decimal("1.10")),
    (Path, Path("a/b")),
    (PurePosixPath, PurePosixPath("/a")),
    (UserId, 3),
    (Annotated[int, "pixels"], 3),
    (Size, Size(2)),
    (Order, Order([Size(1), Size(2, 3)], dt.date(2026, 1, 2), {"a": Colour.RED})),
    (Order | None, Order([Size(1)])),
    (typing.Optional[list[Size]], [Size(4)]),  # noqa: UP045 - written so by many
]

MISFITS: list[tuple[Any, Any, str]] = [
    (int, "3", "argument a must be int, not '3'"),
    (int, True, "argument a must be int, not True"),
    (int, 3.5, "argument a must be int, not 3.5"),
    (float, "x", "argument a must be float, not 'x'"),
    (str, None, "argument a must be str, not None"),
    (list[int], [1, "x"], "argument a[1] must be int, not 'x'"),
    (list[int], "ab", "argument a must be a list, not 'ab'"),
    (tuple[int, str], [1], "argument a must be a list of 2, not [1]"),
    (dict[str, int], {"k": None}, "argument a.k must be int, not None"),
    (Literal["a", "b"], "c", "argument a must be one of 'a', 'b', not 'c'"),
    (Colour, "green", "argument a must be one of 'red', 'blue', not 'green'"),
    (Colour, ["red"], "argument a must be one of 'red', 'blue', not ['red']"),
    (int | None, "x", "argument a must be int, not 'x'"),
    (int | bytes, "x", "argument a must be int, not 'x'; or must be bytes, not 'x'"),
    (dt.date, "soon", "argument a must be date, not 'soon'"),
    (uuid.UUID, "7", "argument a must be UUID, not '7'"),
    (Decimal, "one", "argument a must be Decimal, not 'one'"),
    (Size, {"height": 2}, "argument a.width is missing"),
    (Size, {"width": 1, "depth": 2}, "argument a has no 'depth'"),
    (Size, [1], "argument a must be an object (Size), not [1]"),
    (Order, {"sizes": [{"width": "w"}]}, "argument a.sizes[0].width must be int, not 'w'"),
    (Order, {"sizes": []}, "argument a: an order needs sizes"),
    (Movie, {"year": 1}, "argument a.title is missing"),
    (bytes, {"type": "Buffer", "data": ["x"]}, "argument a must be bytes, not {'type': 'Buffer'"),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=str)
def test_a_value_comes_back_as_it_was(annotation: Any, value: Any) -> None:
    """Through JSON as it travels, with the same type."""
    text = json.dumps(plain(value))
    found = fitted(annotation, json.loads(text), "argument a")
    assert found == value
    if annotation is not float:
        assert type(found) is type(value)


@pytest.mark.parametrize(("annotation", "value", "message"), MISFITS, ids=str)
def test_what_does_not_fit_is_named(annotation: Any, value: Any, message: str) -> None:
    """Who reads it knows which part of which argument is wrong, and what it should be."""
    with pytest.raises(Misfit) as refused:
        fitted(annotation, value, "argument a")
    assert str(refused.value).startswith(message)


def test_bytes_may_be_those_of_node() -> None:
    """JSON.stringify writes a Buffer so."""
    assert fitted(bytes, {"type": "Buffer", "data": [1, 2]}, "a") == b"\1\2"


def test_models_of_pydantic_are_validated_by_it() -> None:
    """With the place of each error in it."""
    pydantic = pytest.importorskip("pydantic")
    model: Any = pydantic.create_model("Person", name=(str, ...), age=(int, 3))

    assert fitted(model, json.loads(json.dumps(plain(model(name="A")))), "a") == model(name="A")
    with pytest.raises(Misfit, match=r"a\[0\]\.age: Input should be a valid integer"):
        fitted(list[model], [{"name": "A", "age": "x"}], "a")
    aliased: Any = pydantic.create_model(
        "Aliased", user_id=(int, pydantic.Field(alias="userId")), text=(str, "")
    )
    given = aliased(userId=3)
    assert fitted(aliased, plain(given), "a") == fitted(aliased, {"userId": 3}, "a") == given
    positive = Annotated[int, pydantic.Field(gt=0)]
    with pytest.raises(Misfit, match="a: Input should be greater than 0"):
        fitted(positive, 0, "a")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _tree(of: Any, sizes: set[Any], far: float) -> float:
    """Take what can go wrong in more than one way."""
    del of, sizes
    return far


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"of": _nested(100_000)}, "nested too deep"),
        ({"sizes": [[1]]}, "unhashable"),
        ({"far": 10**400}, "too large"),
    ],
    ids=["deep", "set", "float"],
)
def test_whatever_a_value_raises_is_told_of_the_arguments(
    wrong: dict[str, Any], message: str
) -> None:
    """Where it is enqueued and in the child: there the job fails for good."""
    arguments = Arguments(_tree, "tree")
    data = {"of": 1, "sizes": [1], "far": 1, **wrong}
    with pytest.raises(InvalidArguments, match=f"task 'tree': .*{message}"):
        arguments.data_from((), data)
    if "of" not in wrong:
        with pytest.raises(InvalidArguments, match=message):
            arguments.arguments_from(data)
    if "far" in wrong:
        with pytest.raises(UnexpectedResult, match=r"completed, but .*too large"):
            arguments.value_from(data["far"])


def test_an_argument_by_place_is_not_replaced_by_one_of_its_name() -> None:
    """By name in a job's data they would be one."""

    def mixed(a: int, /, **more: int) -> None:
        """Take both."""

    arguments = Arguments(mixed, "mixed")
    assert arguments.data_from((1,), {"b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(InvalidArguments, match="argument a is given twice"):
        arguments.data_from((1,), {"a": 2})
