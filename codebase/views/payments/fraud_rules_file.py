"""The file that says by which rules payments are judged."""

from __future__ import annotations

from pathlib import Path

from codebase.foundation.errors import ConfigurationError
from codebase.model.payments.fraud_rule_set import RuleSet, RuleSetError, parse_rules

DEFAULT = Path(__file__).with_name("fraud_rules.toml")


def read_rules_file(file: Path | None) -> RuleSet:
    """The rule set in a file, by default in the one that comes with the service.

    Raises:
        ConfigurationError: it cannot be read, or what is wrong with which field.
    """
    file = file or DEFAULT
    try:
        return parse_rules(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"FRAUD_RULES: {file} cannot be read: {error}") from error
    except RuleSetError as error:
        raise ConfigurationError(f"FRAUD_RULES: {file}: {error}") from error
