"""The cluster is written by hand; this keeps it whole and consistent, without default secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from codebase.foundation import needs
from codebase.foundation.settings import STORES, SUPERUSERS
from codebase.registry import SYSTEM
from codebase.views.payments.settings import PaymentSettings

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docker-compose.yml").read_text(encoding="utf-8")
GATEWAY = (PROJECT / "config/nginx/nginx.conf").read_text(encoding="utf-8")
SECRETS = (PROJECT / "docker/secrets.sh").read_text(encoding="utf-8")
IS_SECRET = re.compile(r"_PASSWORD|_TOKENS?$|_KEYS$|^TWO_FA$")


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
    return loaded


def ours() -> dict[str, Any]:
    """Every container of our image that goes on."""
    return {
        name: service
        for name, service in compose()["services"].items()
        if service["image"].startswith("orderly:") and service["restart"] != "no"
    }


def told(service: dict[str, Any]) -> set[str]:
    """The secrets in a container's environment, as fields of the settings."""
    return needs.SECRETS & {name.lower() for name in service["environment"]}


def test_every_deployable_is_told_its_secrets_and_no_others() -> None:
    for name, service in ours().items():
        # With a broker compliance asks nobody.
        missing = {"service_token"} if name == "compliance" else set()
        assert told(service) == SYSTEM.needs_of([name]) - missing, name
    with_superusers = [n for n, s in compose()["services"].items() if "SUPERUSER" in str(s)]
    assert with_superusers == ["roles", "write_model", "read_model"]


def test_the_roles_are_made_before_the_schema_and_by_superusers_that_are_no_owners() -> None:
    services = compose()["services"]
    roles = services["roles"]
    assert roles["command"] == ["roles"]
    assert told(roles) == {*STORES, *SUPERUSERS}
    waits = services["migration"]["depends_on"]["roles"]
    assert waits == {"condition": "service_completed_successfully"}
    for store in ("write_model", "read_model"):
        superuser = services[store]["environment"]["POSTGRES_USER"]
        address = roles["environment"][f"{store.upper()}_SUPERUSER_URL"]
        assert address.startswith(f"postgresql://{superuser}:")
        assert f"//{superuser}:" not in roles["environment"][f"{store.upper()}_OWNER_URL"]


def test_every_deployable_is_in_the_cluster_and_nothing_else_runs_its_image() -> None:
    assert sorted(ours()) == SYSTEM.names()
    for name, service in ours().items():
        assert service["command"] == ["serve", name, "--port", "8080"]
        assert "ports" not in service, "a scaled service cannot have one; the gateway has it"


def test_the_gateway_knows_services_by_the_ports_of_their_contracts() -> None:
    (by_port,) = re.findall(r"map \$server_port \$service_of_port \{(.*?)\}", GATEWAY, re.DOTALL)
    known = {name: int(port) for port, name in re.findall(r"(\d+) (\w+);", by_port)}
    assert known == {name: SYSTEM.load(name).PORT for name in known}
    # The others have no routes of their own.
    assert set(known) == {name for name in SYSTEM.names() if answers(name)}
    listens = {int(port) for port in re.findall(r"listen (\d+);", GATEWAY)}
    assert listens == {*known.values(), *(group.port for group in SYSTEM.groups.values()), 8080}


def test_all_that_is_configured_of_mails_and_short_messages_reaches_who_sends_them() -> None:
    about = ("alert_", "smtp_", "sms_")
    named = {name.upper() for name in PaymentSettings.model_fields if name.startswith(about)}
    assert len(named) > len(about)
    assert named <= compose()["services"]["alertman"]["environment"].keys()


def test_every_client_of_the_load_test_that_needs_no_broker_is_there() -> None:
    text = (PROJECT / "loadtest/locustfile.py").read_text(encoding="utf-8")
    asked = set(re.findall(r'os\.environ\.get\("(\w+)"\)', text))
    locust = compose()["services"]["locust"]
    # It is where clients are, who see no broker.
    assert locust["networks"] == ["front"]
    assert locust["environment"].keys() == asked - {"BROKER_URL"}
    told = locust["environment"]
    assert told["PAYMENTS_URL"] == f"http://gateway:{SYSTEM.load('transact').PORT}"
    assert told["POLICE_URL"] == f"http://gateway:{SYSTEM.load('fraud_police').PORT}"
    assert "entry admin admin ADMIN_TOKEN" in SECRETS
    assert re.findall(r"\w+", told["TOKEN"]) == ["ADMIN_TOKEN"]


def test_prometheus_asks_every_deployable() -> None:
    text = (PROJECT / "config/prometheus/prometheus.yml").read_text(encoding="utf-8")
    jobs = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
    assert jobs["orderly"]["dns_sd_configs"][0]["names"] == SYSTEM.names()


def answers(name: str) -> bool:
    return hasattr(SYSTEM.load(name), "create_app")


def published() -> set[int]:
    ports = set()
    for text in compose()["services"]["gateway"]["ports"]:
        first, _, last = text.rpartition(":")[2].partition("-")
        ports |= set(range(int(first), int(last or first) + 1))
    return ports


def test_what_the_gateway_listens_on_is_published() -> None:
    assert published() == {int(port) for port in re.findall(r"listen (\d+);", GATEWAY)}


def test_no_secret_has_a_default_and_each_is_generated() -> None:
    variables = re.findall(r"\$\{(\w+)(:[-?])?", TEXT)
    secrets = {name for name, _ in variables if IS_SECRET.search(name)}
    assert {operator for name, operator in variables if name in secrets} == {":?"}
    assert secrets
    generated = set(re.findall(r"\b[A-Z_]{3,}\b", SECRETS))
    for name in secrets:
        assert name in generated or name.removesuffix("_PASSWORD") in generated, name


def test_stores_and_broker_are_published_on_loopback_only() -> None:
    for name, service in compose()["services"].items():
        address = "PUBLISH_ADDRESS" if name == "gateway" else "LOOPBACK_ADDRESS"
        for port in service.get("ports", ()):
            assert port.startswith(f"${{{address}:-127.0.0.1}}:"), name


def test_the_gateway_limits_by_what_nobody_can_make_up() -> None:
    keys = re.findall(r"limit_(?:req|conn)_zone (\S+) ", GATEWAY)
    assert keys == ["$binary_remote_addr"] * 2
