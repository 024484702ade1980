"""What was measured: one row per number, as a table and as JSON."""

from __future__ import annotations

import json
import operator
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

RESULTS = Path(__file__).parent / "results.json"
MACHINE = Path(__file__).parent / "machine.json"

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a number must reach, such as `>= 0.5`."""

    comparison: str
    bound: float

    def met_by(self, value: float) -> bool:
        """Whether `value` is on the right side of the bound."""
        return COMPARISONS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.comparison} {self.bound:g}"


def at_least(bound: float) -> Target:
    """`>= bound`."""
    return Target(comparison=">=", bound=bound)


def at_most(bound: float) -> Target:
    """`<= bound`."""
    return Target(comparison="<=", bound=bound)


def below(bound: float) -> Target:
    """`< bound`."""
    return Target(comparison="<", bound=bound)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number; without a target it stands beside another for comparison.

    Args:
        name: of the row.
        value: the number.
        unit: `ratio` for a quotient of two numbers.
        target: what it must reach.
        chart: the title of the comparison in which it is a bar of the chart; None: it is not.
        together: what several visits to a section come to; what must never happen counts wherever
            it did.
        visits: the number of each visit, where there were several.
    """

    name: str
    value: float
    unit: str
    target: Target | None = None
    chart: str | None = None
    together: Callable[[Sequence[float]], float] = median
    visits: Sequence[float] = ()

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.target.met_by(self.value)

    def as_json(self) -> dict[str, object]:
        """The entry of results.json."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "target": str(self.target) if self.target else None,
            "ok": self.ok,
            **({"chart": self.chart} if self.chart else {}),
            **({"visits": list(map(_rounded, self.visits))} if self.visits else {}),
        }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


VERDICTS: Mapping[bool | None, str] = {True: "ok", False: "MISSED", None: ""}
NAME_WIDTH = 76


def line(result: Result) -> str:
    """One line of the table."""
    target = str(result.target) if result.target else ""
    value = _readable(result.value)
    return (
        f"{result.name:<{NAME_WIDTH}} {value:>9} {result.unit:<10} {target:>9}  "
        f"{VERDICTS[result.ok]}"
    ).rstrip()


def _readable(value: float) -> str:
    for limit, form in ((10, ".2f"), (100, ".1f")):
        if abs(value) < limit:
            return format(value, form)
    return format(value, ",.0f")


def save(results: Sequence[Result], machine: Mapping[str, str]) -> None:
    """Write results.json, and machine.json beside it."""
    rows = [result.as_json() for result in results]
    for path, content in ((RESULTS, rows), (MACHINE, dict(machine))):
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def describe_machine(postgres_major: int) -> dict[str, str]:
    """What a reader has to know to compare the numbers with their own."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return {
        "processor": _processor(),
        "cores": str(psutil.cpu_count(logical=True)),
        "memory": f"{memory_gib:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": str(postgres_major),
        "load before": ", ".join(f"{load:.2f}" for load in psutil.getloadavg()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = (text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    return next(models, platform.machine())
