"""Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0.

Callers add their figures to a Page; a family with figures of several queues stays together, as both
formats require.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_EXACT = 2**53  # up to here whole numbers are shown as such
# Seconds: from a job that only computes a moment to one of an hour.
SECONDS = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    1800.0, 3600.0,
)  # fmt: skip
# Bytes: 16 MB to 64 GB, each twice the one before.
BYTES = tuple(float(1 << power) for power in range(24, 37))


class Histogram:
    """Counts values by size. It takes many at once, in C: a fraction of a microsecond for each.

    ``bounds`` are in the unit that is shown, the values in parts of it: ``per_unit`` is 1000 for
    values in milliseconds and bounds in seconds.
    """

    __slots__ = ("_bounds", "_counts", "_limits", "_per_unit", "_sum")

    def __init__(self, bounds: Sequence[float], per_unit: float = 1.0) -> None:
        """Begin with nothing counted."""
        self._bounds = bounds
        self._limits = [bound * per_unit for bound in bounds]
        self._per_unit = per_unit
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def take(self, values: Sequence[float], count: int) -> None:
        """Count values, which stand for ``count`` alike; none is less than 0."""
        if not values:
            return
        limits, counts, size = self._limits, self._counts, len(values)
        self._sum += sum(values) * count / size
        place = bisect_left(limits, values[0])
        if size == 1 or place == bisect_left(limits, min(values)) == bisect_left(
            limits, max(values)
        ):
            counts[place] += count  # nearly always
            return
        weight, rest = divmod(count, size)
        counts[place] += rest
        for value in values:
            counts[bisect_left(limits, value)] += weight

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Return its samples: suffix, label, value."""
        so_far, samples = 0, []
        for bound, count in zip([*self._bounds, float("inf")], self._counts, strict=True):
            so_far += count
            samples.append(("_bucket", {"le": _bound(bound)}, float(so_far)))
        return [
            *samples,
            ("_count", {}, float(so_far)),
            ("_sum", {}, self._sum / self._per_unit),
        ]


# Prometheus reads no blank there in OpenMetrics, and Node's export has one.
_BETWEEN = ","


class _Family(NamedTuple):
    kind: str
    help: str
    lines: list[str]


class Page:
    """All metrics of one answer."""

    def __init__(self, *, is_open: bool = False) -> None:
        """Begin an empty page, of OpenMetrics when ``is_open``."""
        self._is_open = is_open
        self._families: dict[str, _Family] = {}

    def gauge(self, name: str, help_text: str, value: float, **labels: str) -> None:
        """Add a value that goes up and down."""
        self._add(name, "gauge", help_text, [("", labels, value)])

    def counter(self, name: str, help_text: str, value: float, **labels: str) -> None:
        """Add a value that only grows, and begins anew with the process."""
        self._add(name, "counter", help_text, [("_total", labels, value)])

    def histogram(self, name: str, help_text: str, histogram: Histogram, **labels: str) -> None:
        """Add a distribution."""
        samples = [(end, {**labels, **more}, value) for end, more, value in histogram.samples()]
        self._add(name, "histogram", help_text, samples)

    @property
    def content_type(self) -> str:
        """What to call the text."""
        return OPEN_TYPE if self._is_open else TEXT_TYPE

    def text(self) -> str:
        """Return the page."""
        lines: list[str] = []
        for name, family in self._families.items():
            # In the older format a counter is called by the name of its sample.
            is_long = family.kind == "counter" and not self._is_open
            shown = f"{name}_total" if is_long else name
            lines += [f"# HELP {shown} {family.help}", f"# TYPE {shown} {family.kind}"]
            lines += family.lines
        lines += ["# EOF"] if self._is_open else []
        return "\n".join(lines) + "\n"

    def _add(
        self,
        name: str,
        kind: str,
        help_text: str,
        samples: Sequence[tuple[str, dict[str, str], float]],
    ) -> None:
        family = self._families.setdefault(name, _Family(kind, help_text, []))
        family.lines.extend(
            f"{name}{end}{text_of_labels(labels, between=_BETWEEN)} {_number(value)}"
            for end, labels, value in samples
        )


def wants_open_metrics(accept: str) -> bool:
    """Tell whether an Accept header asks for OpenMetrics."""
    return "application/openmetrics-text" in accept


def text_of_labels(labels: Mapping[str, str], *, between: str = ", ") -> str:
    """Return labels as Node's export writes them, none as nothing."""
    pairs = between.join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _bound(value: float) -> str:
    # As OpenMetrics wants it, and as Prometheus 3 stores it: the same series by either format.
    return "+Inf" if value == float("inf") else repr(float(value))


def _number(number: float) -> str:
    value = float(number)
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
