"""Alerts at work: by which channels, and who passes messages on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from codebase.engine.commands.bus import CommandBus
from codebase.engine.reactions.reaction import Reaction
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.team import ReactionTeam
from codebase.foundation.errors import ConfigurationError
from codebase.model.payments.alert import Channel
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


@asynccontextmanager
async def alerting(
    runtime: Runtime, settings: PaymentSettings, bus: CommandBus, mailbox: Mailbox | None
) -> AsyncIterator[dict[str, Check]]:
    """The reactions at work; yields the checks that tell whether they are."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        silences = await stack.enter_async_context(Silences.open(settings))
        senders = senders_of(settings, await runtime.http_session(), mailbox)
        raising: dict[str, Target] = {LOG: LogTarget(bus, RAISING.name, list(senders))}
        teams = {"raising": ReactionTeam(settings, RAISING, raising, loop)}
        for channel, sender in senders.items():
            reaction = REACTIONS[channel]
            targets: dict[str, Target] = {
                channel.value: ChannelTarget(sender, silences, Notes(bus, reaction.name)),
                LOG: LogTarget(bus, reaction.name, ()),
            }
            teams[channel.value] = ReactionTeam(settings, reaction, targets, loop)
        for team in teams.values():
            await stack.enter_async_context(team.at_work(runtime.seconds_to_stop))
        yield {name: team.problem for name, team in teams.items()}
