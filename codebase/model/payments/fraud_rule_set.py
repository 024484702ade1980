"""A rule set: rules with their weights and parameters, read from one file, strictly."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Any, cast

from codebase.model.payments.currencies import CODES
from codebase.model.payments.fraud_rules import BOUNDS, KINDS, STRICT_LIMIT_MAX, Judge

WEIGHT_MAX = 1_000
THRESHOLD_MAX = 1_000_000
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
OWN_FIELDS = ("kind", "version", "weight", "state", "fail_closed")
RESERVED = frozenset({"allow_list", "block_list"})
"""What findings of the lists are called."""


class RuleState(StrEnum):
    """Whether a rule counts, is only written down, or rests."""

    LIVE = "live"
    SHADOW = "shadow"
    OFF = "off"


class RuleSetError(ValueError):
    """The file is no rule set; the text names what is wrong with which field."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a set.

    Args:
        id: its name in the set.
        kind: what it looks at: one of `KINDS`.
        version: of the kind.
        weight: what a hit adds to the score.
        state: whether it counts.
        fail_closed: whether its weight counts when it fails.
        parameters: of the kind.
        judge: what it makes of a payment.
    """

    id: str
    kind: str
    version: int
    weight: int
    state: RuleState
    fail_closed: bool
    parameters: Any
    judge: Judge

    @property
    def window(self) -> int | None:
        """In seconds, if it has one."""
        return getattr(self.parameters, "window", None)

    @property
    def is_strict(self) -> bool:
        """Whether it is decided by the card's own stream."""
        return bool(getattr(self.parameters, "strict", False))

    def content(self) -> dict[str, Any]:
        """All that it is, as JSON."""
        asked = {each.name: getattr(self.parameters, each.name) for each in fields(self.parameters)}
        told = {name: str(one) if isinstance(one, Decimal) else one for name, one in asked.items()}
        return {name: getattr(self, name) for name in OWN_FIELDS} | told


@dataclass(frozen=True)
class RuleSet:
    """Rules, and the score from which on a payment is denied."""

    threshold: int
    rules: tuple[Rule, ...]

    @cached_property
    def live(self) -> tuple[Rule, ...]:
        """Those that count."""
        return tuple(rule for rule in self.rules if rule.state is RuleState.LIVE)

    @cached_property
    def shadow(self) -> tuple[Rule, ...]:
        """Those that are only written down."""
        return tuple(rule for rule in self.rules if rule.state is RuleState.SHADOW)

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """The windows that have to be looked up, in seconds."""
        return self._windows(strict=False)

    @cached_property
    def strict_windows(self) -> tuple[int, ...]:
        """Those that are counted by the card's own stream."""
        return self._windows(strict=True)

    def _windows(self, *, strict: bool) -> tuple[int, ...]:
        return tuple(
            sorted(
                {
                    rule.window
                    for rule in (*self.live, *self.shadow)
                    if rule.window is not None and rule.is_strict == strict
                }
            )
        )

    @cached_property
    def text(self) -> str:
        """Canonical JSON of all of it."""
        content = {
            "threshold": self.threshold,
            "rules": {rule.id: rule.content() for rule in self.rules},
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @cached_property
    def hash(self) -> str:
        """Names this very set: half of SHA-256 of its text, in hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def parse_rules(text: str) -> RuleSet:
    """The rule set of a file in TOML.

    Raises:
        RuleSetError: what is wrong with which field.
    """
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RuleSetError(f"is not TOML: {error}") from error
    except (ValueError, ArithmeticError):
        raise RuleSetError("holds a number with too many digits") from None
    rules = read_rules(content)
    for rule in rules.rules:
        _require_in_use(rule)
    return rules


def _require_in_use(rule: Rule) -> None:
    """Of a file only: what was recorded is read for ever, whichever currencies are given up."""
    currency = getattr(rule.parameters, "currency", None)
    if currency is not None and currency not in CODES:
        raise RuleSetError(f"rules.{rule.id}.currency: is no code of ISO 4217 that is in use")


def recorded_rules(text: str) -> RuleSet:
    """The rule set of a `RuleSet.text`."""
    return read_rules(json.loads(text))


def read_rules(content: Mapping[str, Any]) -> RuleSet:
    """The rule set that `content` describes.

    Raises:
        RuleSetError: what is wrong with which field.
    """
    _know("", content, ("threshold", "rules"))
    threshold = _whole("threshold", content.get("threshold"), 1, THRESHOLD_MAX)
    rules = content.get("rules")
    if not isinstance(rules, Mapping) or not rules:
        raise RuleSetError("rules: must be tables, one for each rule")
    return RuleSet(threshold, tuple(_rule(name, rules[name]) for name in sorted(rules)))


def _rule(name: str, table: object) -> Rule:
    where = f"rules.{name}"
    if not NAME.fullmatch(name) or name in RESERVED:
        raise RuleSetError(f"{where}: a name has small letters, digits and _, and is not a list's")
    if not isinstance(table, Mapping):
        raise RuleSetError(f"{where}: must be a table")
    kind = table.get("kind")
    versions = KINDS.get(kind) if isinstance(kind, str) else None
    if versions is None:
        raise RuleSetError(f"{where}.kind: must be one of {', '.join(sorted(KINDS))}")
    version = table.get("version", max(versions))
    if isinstance(version, bool) or not isinstance(version, int) or version not in versions:
        raise RuleSetError(f"{where}.version: must be one of {sorted(versions)}")
    known = versions[version]
    names = [each.name for each in fields(known.parameters)]
    _know(f"{where}.", table, (*OWN_FIELDS, *names))
    parameters = known.parameters(**_parameters(where, known.parameters, table))
    if getattr(parameters, "strict", False) and parameters.limit > STRICT_LIMIT_MAX:
        raise RuleSetError(f"{where}.limit: a strict one must be at most {STRICT_LIMIT_MAX}")
    return Rule(
        id=name,
        kind=cast("str", kind),
        version=version,
        weight=_whole(f"{where}.weight", table.get("weight"), 0, WEIGHT_MAX),
        state=_state(f"{where}.state", table.get("state", RuleState.LIVE)),
        fail_closed=_boolean(f"{where}.fail_closed", table.get("fail_closed", False)),
        parameters=parameters,
        judge=known.judge(parameters),
    )


def _know(where: str, table: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in table:
        if name not in names:
            raise RuleSetError(f"{where}{name}: is not known; there is: {', '.join(names)}")


def _parameters(where: str, kind: type[Any], table: Mapping[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in table:
            read[each.name] = _parameter(f"{where}.{each.name}", str(each.type), table[each.name])
        elif each.default is MISSING:
            raise RuleSetError(f"{where}.{each.name}: is missing")
    return read


def _parameter(where: str, kind: str, value: object) -> object:
    match kind:
        case "bool":
            return _boolean(where, value)
        case "int":
            return _whole(where, value, *BOUNDS[where.rpartition(".")[2]])
        case "Decimal":
            return _decimal(where, value)
        case "str":
            return _currency(where, value)
        case _:
            raise AssertionError("parameters are of these types")


def _boolean(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise RuleSetError(f"{where}: must be true or false")
    return value


def _whole(where: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RuleSetError(f"{where}: must be a whole number from {least} to {most}")
    return value


def _decimal(where: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise RuleSetError(f"{where}: must be a decimal number")
    try:
        number = Decimal(value)
    except ArithmeticError:
        raise RuleSetError(f"{where}: must be a decimal number") from None
    if not (number.is_finite() and number > 0):
        raise RuleSetError(f"{where}: must be above 0")
    return number


def _currency(where: str, value: object) -> str:
    if not isinstance(value, str) or not CURRENCY.fullmatch(value):
        raise RuleSetError(f"{where}: must be three capital letters (ISO 4217)")
    return value


def _state(where: str, value: object) -> RuleState:
    if not isinstance(value, str) or value not in set(RuleState):
        raise RuleSetError(f"{where}: must be one of {', '.join(RuleState)}")
    return RuleState(value)
