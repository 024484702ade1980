"""Alerts at work: by which channels, and who passes messages on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import psycopg

from codebase.engine.commands.bus import CommandBus
from codebase.engine.reactions.reaction import Answer, Reaction, Sent
from codebase.engine.reactions.store import REACTION_STORE
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.team import ReactionTeam
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.postgres import connect, trouble
from codebase.model.payments.alert import Alert, Channel
from codebase.services.alertman.alerting import BY_EMAIL, BY_SMS, LOG, RAISING
from codebase.services.alertman.mailbox import Mailbox
from codebase.services.alertman.sending import Sender
from codebase.services.alertman.silencing import Silences
from codebase.services.alertman.sms import SmsSender
from codebase.services.alertman.smtp import Relay, SmtpSender
from codebase.services.alertman.targets import ChannelTarget, LogTarget, Notes
from codebase.views.payments.settings import PaymentSettings
from codebase.web.runtime import Runtime
from codebase.web.shell import Check

logger = logging.getLogger(__name__)

FIND_CHECKPOINT = "SELECT FROM projection_checkpoint WHERE projector = %(reaction)s LIMIT 1"
REACTIONS: Mapping[Channel, Reaction] = {Channel.EMAIL: BY_EMAIL, Channel.SMS: BY_SMS}


def mailbox_of(settings: PaymentSettings) -> Mailbox | None:
    """The folder of mails; None where a mail server takes them.

    Raises:
        ConfigurationError: there is neither.
    """
    if settings.smtp_url:
        return None
    if settings.alert_mail_folder is not None:
        return Mailbox(settings.alert_mail_folder, keep_days=settings.alert_mail_days)
    if settings.development:
        folder = settings.orderly_home / "mails"
        return Mailbox(folder, keep_days=settings.alert_mail_days)
    raise ConfigurationError(
        "SMTP_URL is not set, nor ALERT_MAIL_FOLDER: nobody would be told of fraud"
    )


def smtp_sender(settings: PaymentSettings, url: str) -> SmtpSender:
    """Mail by the server that is configured.

    Raises:
        ConfigurationError: something is missing for that, or malformed.
    """
    if settings.alert_from is None or not settings.alert_to:
        raise ConfigurationError("SMTP_URL needs ALERT_FROM and ALERT_TO")
    try:
        return SmtpSender(
            Relay.read(url),
            settings.alert_from,
            settings.alert_to,
            ca_file=settings.smtp_ca_file,
        )
    except OSError as error:
        raise ConfigurationError(f"SMTP_CA_FILE: {error.strerror or error}") from error


def senders_of(
    settings: PaymentSettings, session: aiohttp.ClientSession, mailbox: Mailbox | None
) -> dict[Channel, Sender]:
    """Who passes messages on, by channel.

    Raises:
        ConfigurationError: something is missing for that, or malformed.
    """
    senders: dict[Channel, Sender] = {
        Channel.EMAIL: mailbox or smtp_sender(settings, settings.smtp_url or "")
    }
    if settings.sms_webhook_url:
        senders[Channel.SMS] = SmsSender(session, settings.sms_webhook_url)
    return senders


class Nobody:
    """Stands for a channel that is not configured any more, while there is something left of it."""

    async def deliver(self, sent: Sent, alerts: Sequence[Alert]) -> Answer:  # noqa: ARG002 - as every sender
        """Say so: what waits for it is dead, is told of as such, and may be retried later."""
        return Answer(refused=f"no way to send by {sent.send.target} is configured any more")


def was_at_work(settings: PaymentSettings, reaction: Reaction) -> bool:
    """Whether a reaction has ever read the log; where that is not found out it may have."""
    url = settings.required(REACTION_STORE.worker_url)
    try:
        with connect(url, "alertman", options=REACTION_STORE.options) as store:
            found = store.execute(FIND_CHECKPOINT, {"reaction": reaction.name}).fetchone()
    except psycopg.Error as error:
        logger.warning("whether %s was at work is not found out: %s", reaction.name, trouble(error))
        return True
    return found is not None


@asynccontextmanager
async def alerting(
    runtime: Runtime, settings: PaymentSettings, bus: CommandBus, mailbox: Mailbox | None
) -> AsyncIterator[dict[str, Check]]:
    """The reactions at work; yields the checks that tell whether they are."""
    async with AsyncExitStack() as stack:
        silences = await stack.enter_async_context(Silences.open(settings))
        senders = senders_of(settings, await runtime.http_session(), mailbox)
        raising: dict[str, Target] = {LOG: LogTarget(bus, RAISING.name, list(senders))}
        teams = {"raising": ReactionTeam(settings, RAISING, raising)}
        for channel in REACTIONS.keys() - senders.keys():
            if await asyncio.to_thread(was_at_work, settings, REACTIONS[channel]):
                senders[channel] = Nobody()
        for channel, sender in senders.items():
            reaction = REACTIONS[channel]
            targets: dict[str, Target] = {
                channel.value: ChannelTarget(sender, silences, Notes(bus, reaction.name)),
                LOG: LogTarget(bus, reaction.name, ()),
            }
            teams[channel.value] = ReactionTeam(settings, reaction, targets)
        for team in teams.values():
            await stack.enter_async_context(team.at_work(runtime.seconds_to_stop))
        yield {name: team.problem for name, team in teams.items()}
