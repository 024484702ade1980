"""What the services of an embedded run find in their environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from codebase.embedded.home import read_environment
from codebase.embedded.run import Run
from codebase.engine.context import Context
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.keys import new_key
from codebase.foundation.needs import SECRETS
from codebase.foundation.settings import LOOPBACK_HOSTS, Settings, extended
from codebase.foundation.tokens import new_token

# What a program expects of its surroundings; the rest of the shell is no business of a service.
SURROUNDINGS = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|PYTHON\w*|LD_LIBRARY_PATH|DYLD_\w+|MALLOC_\w+"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|RES_OPTIONS|OTEL_\w+|ORDERLY_FAILPOINT"
    r"|(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY"
)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the services of a run find in theirs.

    Args:
        public: variables of every service.
        secrets: variables that only some of them need.
        needs: service -> the secrets that it needs, as fields of the settings.
        own: variables that only this one has, by service.
    """

    public: Mapping[str, str]
    secrets: Mapping[str, str]
    needs: Mapping[str, Collection[str]]
    own: Mapping[str, Mapping[str, str]]

    def of(self, service: str) -> dict[str, str]:
        """All variables of one service."""
        needed = {
            name: value
            for name, value in self.secrets.items()
            if name.lower() in self.needs[service]
        }
        return {**self.public, **needed, **self.own.get(service, {})}


def written_values(
    run: Run, contexts: Iterable[Context], address_of: Callable[[str], str]
) -> dict[str, str]:
    """What the file `environment` in the home holds beside the addresses of the servers.

    Args:
        run: the run that it belongs to.
        contexts: tell which services' addresses are wanted, and what they want remembered.
        address_of: the address of a service.
    """
    values: dict[str, str] = {}
    for context in contexts:
        values |= {
            variable: os.environ.get(variable) or address_of(name)
            for variable, name in context.addresses.items()
        }
        own = extended(run.settings, context.settings, embedded_home=False)
        values |= {name.upper(): str(getattr(own, name)) for name in context.remembered}
    return values | {
        **{name: ",".join(_kept_keys(run, name)) for name in ("FINGERPRINT_KEYS", "CARD_KEYS")},
        "PARTITIONS": str(run.settings.partitions),
        "DEVELOPMENT": "true",
        "PORT_OFFSET": str(run.settings.port_offset),
        "ORDERLY_HOME": str(run.home),
    }


def _kept_keys(run: Run, variable: str) -> Iterable[str]:
    """Those that are configured, and whatever this home has been given before; else a new one.

    What was signed with a key stays in the log, so that none is ever left out.
    """
    known = read_environment(run.home).get(variable, "")
    configured = getattr(run.settings, variable.lower())
    entries = dict.fromkeys([*configured, *filter(None, known.split(","))])
    return entries or [new_key("k1")]


def environment(
    settings: Settings,
    contexts: Sequence[Context],
    written: Mapping[str, str],
    needs: Mapping[str, Collection[str]],
) -> Environment:
    """What services find in theirs: of ours what is meant for them, and what this run has made.

    Args:
        settings: of the run.
        contexts: whose services they are.
        written: addresses and other values of this run.
        needs: service -> the secrets that it is told, as fields of the settings.
    """
    known = set(Settings.model_fields).union(*(one.settings.model_fields for one in contexts))
    ours = {name: value for name, value in os.environ.items() if _is_for_services(name, known)}
    administrators = [name for context in contexts for name in context.administrators]
    tokens, own = _service_tokens(settings, administrators)
    everything = {**ours, **written, **tokens, "PYTHONUNBUFFERED": "1"}
    return Environment(
        public={name: value for name, value in everything.items() if name.lower() not in SECRETS},
        secrets={name: value for name, value in everything.items() if name.lower() in SECRETS},
        needs=needs,
        own=own,
    )


def _is_for_services(variable: str, settings: Container[str]) -> bool:
    """Whether a variable of ours is passed on; the broker is this run's, or there is none."""
    is_setting = variable.lower() in settings and variable.upper() != "BROKER_URL"
    return is_setting or SURROUNDINGS.fullmatch(variable) is not None


def _service_tokens(
    settings: Settings, administrators: Iterable[str]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """With tokens configured, more of them for what services ask each other, for this run only.

    Who calls in the name of every client gets an administrator's, and nobody else.
    """
    if not settings.api_tokens:
        return {}, {}
    entries, own = [*settings.api_tokens], {}
    for name in administrators:
        admin_secret, admin_entry = new_token(f"orderly-{name}", "admin")
        own[name] = {"SERVICE_TOKEN": admin_secret}
        entries.append(admin_entry)
    secret = settings.service_token
    if not secret:
        secret, entry = new_token("orderly-services", "client")
        entries.append(entry)
    return {"API_TOKENS": ",".join(entries), "SERVICE_TOKEN": secret}, own


def take_in(file: Path) -> list[str]:
    """Put what the file says into this process' environment; what is there already stays.

    Args:
        file: `NAME=value` lines, as `.env.example` has them; there need not be one.

    Returns:
        The names of the variables that were taken from it.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        said = dotenv_values(file) if file.exists() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {type(error).__name__}") from error
    new = {name: value for name, value in said.items() if value and name not in os.environ}
    os.environ.update(new)
    return sorted(new)


def host_of(settings: Settings) -> str:
    """Where on this machine the services can be asked."""
    everywhere = settings.listen_address in {*LOOPBACK_HOSTS, "0.0.0.0", "::"}  # noqa: S104 - compared only
    return "127.0.0.1" if everywhere else settings.listen_address
