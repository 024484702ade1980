"""A payment's way as a stranger goes it who types what README has: paid, refused, told, mended."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from codebase.foundation.clock import utc_now
from tests.acceptance.conftest import until
from tests.acceptance.embedded_runs import PROJECT, EmbeddedRun, script_environment
from tests.acceptance.readme import README, moved, printed

POLICE_AWAY = ("FRAUD_POLICE_URL", "http://localhost:9")
LUHN_WRONG, LUHN_RIGHT = "1234567887654321", "4111111111111111"
RULE = "card_payments_in_a_minute"
LUHN = '[rules.luhn]\nkind = "luhn"\nweight = 10\n'
BOTH_COUNTS = re.compile(r"(\d+) transactions, \d+ had been denied,\n(\d+) would be: ")


class Stranger:
    """Somebody at a shell in a checkout of their own, with a run beside it."""

    def __init__(self, checkout: Path, run: EmbeddedRun) -> None:
        self.checkout = checkout
        self.run = run

    def types(self, command: str) -> str:
        """What a command prints."""
        done = subprocess.run(  # noqa: S602 - as somebody types it
            moved(command, self.run),
            shell=True,
            cwd=self.checkout,
            env=script_environment(self.run),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sends(self, request: str) -> tuple[int, dict[str, Any]]:
        """The status of a request, and the answer."""
        body, _, status = self.types(f"{request} -w '\\n%{{http_code}}'").rpartition("\n")
        return int(status), json.loads(body)

    def sees(self, address: str, what: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """What is shown at an address, once it is that; tables follow the log."""
        seen: list[tuple[int, dict[str, Any]]] = []

        def is_shown() -> object:
            seen.append(self.sends(f"curl -sS {shlex.quote(address)}"))
            return seen[-1][0] == 200 and what(seen[-1][1])

        until(is_shown, lambda: f"{address} goes on showing {seen[-1]}")
        return seen[-1][1]

    def pays(self, *, key: str, card: str = LUHN_WRONG) -> tuple[int, dict[str, Any]]:
        """README's payment, by a key or a card of one's own: its status and the answer."""
        command = printed("curl -sS -X POST localhost:9001/transact")
        return self.sends(command.replace("order-1234", key).replace(LUHN_WRONG, card))

    def pays_until_answered(self, *, key: str) -> tuple[int, dict[str, Any]]:
        """The same request again while it is PENDING, as README says."""
        answers: list[tuple[int, dict[str, Any]]] = []

        def is_answered() -> bool:
            answers.append(self.pays(key=key))
            return answers[-1][0] != 202

        until(is_answered, lambda: f"{key} is still PENDING: {answers[-1]}")
        assert len({answer["transactionID"] for _, answer in answers}) == 1
        return answers[-1]

    def backtests(self) -> tuple[int, int]:
        """How many payments were judged, and how many of them `my_rules.toml` would deny."""
        told = self.types(printed(".venv/bin/orderly fraud backtest"))
        found = BOTH_COUNTS.match(told)
        assert found, told
        return int(found[1]), int(found[2])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Where what is typed leaves its files; all else is this checkout's."""
    for name in (".venv", "codebase"):
        (tmp_path / name).symlink_to(PROJECT / name)
    return tmp_path


def test_a_payment_is_paid_refused_told_of_judged_otherwise_and_waits_for_the_police(
    start: Callable[..., EmbeddedRun], checkout: Path
) -> None:
    run = start().ready()
    stranger = Stranger(checkout, run)

    status, paid = stranger.pays_until_answered(key="order-1234")
    assert (status, paid["status"]) == (200, "PAYMENT_COMPLETE")

    # 31 each time, in which what waits is 202; a machine that needs more than the minute for them
    # has none refused, and is asked again.
    until(
        lambda: "402" in stranger.types(printed("for i in")).split(),
        "no payment is refused for fraud",
    )
    latest = printed('curl -sS "localhost:8090/decisions').removeprefix("curl -sS ").strip('"')
    [decision] = stranger.sees(latest, lambda answer: answer["items"])["items"]
    assert RULE in decision["rules"]

    mails = run.home / "mails"
    until(lambda: list(mails.glob("*.eml")), "nobody was sent a mail")
    mail = next(mails.glob("*.eml"))
    told_of = mail.name.partition(".")[0]
    assert RULE in mail.read_text()
    assert f'<a href="/mails/{told_of}">' in stranger.types("curl -sS localhost:8083/")
    why = stranger.sees(f"localhost:8090/decisions/{told_of}", lambda answer: answer["is_fraud"])
    [reason] = [each for each in why["reasons"] if each["rule"] == RULE]
    assert reason["sentence"].endswith("payments of this card in 1 minute, 30 are allowed")

    rules = checkout / "my_rules.toml"
    stranger.types(printed("cp codebase/views/payments/fraud_rules.toml"))
    judged, denied = stranger.backtests()
    assert 0 < denied < judged
    assert LUHN in rules.read_text()
    rules.write_text(rules.read_text().replace(LUHN, LUHN.replace("10", "100")))
    judged, denied_by_mine = stranger.backtests()
    assert denied < denied_by_mine == judged
    assert run.stop() == 0

    assert f"`{'='.join(POLICE_AWAY)} ./run.sh`" in README
    stranger.run = start(home=run.home, offset=run.offset, **dict([POLICE_AWAY])).ready()
    # By a card for which no payment of the last minute counts.
    status, waiting = stranger.pays(key="order-1235", card=LUHN_RIGHT)
    assert (status, waiting["status"]) == (202, "PENDING")
    assert stranger.pays(key="order-1235", card=LUHN_RIGHT) == (status, waiting)
    assert stranger.run.stop() == 0
    is_back_at = utc_now()

    assert printed("FRAUD_RULES=") == f"FRAUD_RULES={rules.name} ./run.sh"
    stranger.run = start(home=run.home, offset=run.offset, FRAUD_RULES=str(rules)).ready()
    done = stranger.sees(
        f"localhost:9001/transactions/{waiting['transactionID']}",
        lambda answer: answer["status"] == "PAYMENT_COMPLETE",
    )
    at = {step["status"]: datetime.fromisoformat(step["at"]) for step in done["transitions"]}
    assert at["PENDING"] < is_back_at < at["CLEARED"]
    status, refused = stranger.pays_until_answered(key="order-1236")
    assert (status, refused["type"]) == (402, "/problems/fraudulent-transaction")
    why = stranger.sees(
        f"localhost:8090/decisions/{refused['transactionID']}", lambda answer: answer["is_fraud"]
    )
    assert {each["rule"]: each["weight"] for each in why["reasons"]}["luhn"] == 100
