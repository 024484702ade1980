"""Tells people of transactions that were flagged, once each; lists, silences and retries alerts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Request, Response

from codebase.engine.commands.bus import CommandBus
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.model.payments.alert import ALERT, AlertState, RetryAlert
from codebase.model.payments.silence import SILENCE, BeginSilence, EndSilence
from codebase.model.refusals import NotFound
from codebase.services.alertman.alerting import BY_EMAIL, BY_SMS, RAISING
from codebase.services.alertman.at_work import alerting, mailbox_of
from codebase.services.alertman.bodies import PostSilence, RetryAnswer, SilenceAnswer
from codebase.services.alertman.forms import EndForm, ForHours, RetryForm, SilenceForm
from codebase.services.alertman.mailbox import Mailbox
from codebase.services.alertman.page import add_page
from codebase.views.payments import alerts, silences
from codebase.views.payments.alerts import AlertPage
from codebase.views.payments.fields import key_without_card
from codebase.views.payments.settings import PaymentSettings
from codebase.views.payments.silences import SilencePage, SilenceShown
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.forms import form
from codebase.web.pages import LastReference, Size, as_json, page
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.runtime import Runtime
from codebase.web.shell import (
    LOCATION,
    Answer,
    Check,
    Command,
    command,
    require_admin,
    require_operator,
    service_app,
)

PORT = 8083
NEEDS = (
    *needs.COMMANDS,
    *needs.QUERIES,
    *needs.REACTION,
    *needs.BROKER,
    *needs.ALERTS,
)
NO_RETRY = {404: "There is no such alert.", 409: "It was sent."}
NO_SILENCE = {404: "There is no such silence."}
REACTIONS = (RAISING, BY_EMAIL, BY_SMS)
SIZE_DEFAULT = 50

OnlyState = Annotated[AlertState | None, Query(description="Only those that stand so.")]


def create_app(
    bus: CommandBus,
    reads: ConsistentReads,
    settings: PaymentSettings,
    mailbox: Mailbox | None,
    checks: Mapping[str, Check],
    *,
    now: Clock = utc_now,
) -> FastAPI:
    """The service, given what it writes to, what it reads from, and where its mails are files."""
    app = service_app("alertman", checks=checks, log=bus)
    alert_pages = reads.query(alerts.pages(), alerts.PAGE_ARGUMENTS, categories=alerts.CATEGORIES)
    silence_pages = reads.query(
        silences.pages(), silences.PAGE_ARGUMENTS, categories=silences.CATEGORIES
    )
    silences_that_hold = reads.query(
        silences.holding(), silences.HOLDING_ARGUMENTS, categories=silences.CATEGORIES
    )
    silence_by_id = reads.query(
        silences.by_id(),
        silences.ONE_ARGUMENTS,
        categories=(),
        asking_for_parked=silences.ASKING_FOR_PARKED,
    )
    operators: dict[str, Any] = {"dependencies": [Depends(require_operator)], "responses": LISTS}

    @app.get("/alerts", response_model=AlertPage, **operators)
    async def get_alerts(
        request: Request,
        state: OnlyState = None,
        last_reference: LastReference = None,
        size: Size = SIZE_DEFAULT,
    ) -> Response:
        """The alerts before `last_reference`, the last item of the page before."""
        [(known, items, last)] = await reads.fetch(
            request, alert_pages, state and state.value, last_reference, size
        )
        if not known:
            raise NotFound("last_reference names no alert")
        return page(items, last, size)

    @command(
        app,
        "POST",
        "/alerts/{alert_id}/retry",
        name="retry_alert",
        answer=RetryAnswer,
        status=HTTPStatus.ACCEPTED,
        summary="Have an alert tried again",
        problems=NO_RETRY,
        requires=[require_admin, key_without_card],
    )
    async def retry(request: Command[None]) -> Answer:
        """For one that is dead or was silenced; one that is on its way is left alone."""
        alert_id = request.path["alert_id"]
        wanted = RetryAlert(by=request.caller.name)
        outcome = await bus.execute(request.submission(ALERT, alert_id, wanted))
        return Answer.to(outcome, RetryAnswer(id=alert_id, state=outcome.state.state))

    @command(
        app,
        "POST",
        "/silences",
        name="begin_silence",
        body=PostSilence,
        answer=SilenceAnswer,
        status=HTTPStatus.CREATED,
        summary="Tell nobody of some alerts for a while",
        problems={409: "`ends_at` has passed."},
        headers=LOCATION,
        requires=[require_admin, key_without_card],
    )
    async def begin_silence(request: Command[PostSilence | ForHours]) -> Answer:
        """Alerts that match are listed as silenced, and can be retried when it is over."""
        asked_at = now()
        begun = request.body.begun_by(request.caller.name, asked_at)
        wanted = BeginSilence(begun=begun, asked_at=asked_at)
        silence_id = request.id_of_creation(SILENCE.category)
        submission = request.submission(SILENCE, silence_id, wanted, creates=True)
        outcome = await bus.execute(submission)
        answer = SilenceAnswer.of(silence_id, outcome.state.begun)
        return Answer.to(outcome, answer, Location=f"/silences/{silence_id}")

    @app.get("/silences", response_model=SilencePage, **operators)
    async def get_silences(
        request: Request, last_reference: LastReference = None, size: Size = SIZE_DEFAULT
    ) -> Response:
        """The silences before `last_reference`, the last item of the page before."""
        [(known, items, last)] = await reads.fetch(request, silence_pages, last_reference, size)
        if not known:
            raise NotFound("last_reference names no silence")
        return page(items, last, size)

    @app.get(
        "/silences/{silence_id}",
        response_model=SilenceShown,
        dependencies=operators["dependencies"],
        responses=NAMES_ONE,
    )
    async def get_silence(request: Request, silence_id: UUID) -> Response:
        """One silence, as it stands; one that has ended says so."""
        found = await reads.fetch(request, silence_by_id, silence_id)
        if not found:
            raise NotFound("there is no such silence")
        return as_json(found[0][0])

    @command(
        app,
        "DELETE",
        "/silences/{silence_id}",
        name="end_silence",
        status=HTTPStatus.NO_CONTENT,
        summary="End a silence before its time",
        problems=NO_SILENCE,
        requires=[require_admin, key_without_card],
    )
    async def end_silence(request: Command[None]) -> Answer:
        """It stays in the list; one that has ended stays as it is."""
        wanted = EndSilence(by=request.caller.name)
        silence_id = request.path["silence_id"]
        return Answer.to(await bus.execute(request.submission(SILENCE, silence_id, wanted)))

    button = partial(form, app, bus, requires=[require_admin])
    button(
        RetryForm,
        path="/forms/retry",
        name="retry",
        summary="The button that has an alert tried again",
        problems=NO_RETRY,
    )(retry)
    button(
        SilenceForm,
        path="/forms/silence",
        name="silence",
        summary="The button that begins a silence",
    )(begin_silence)
    button(
        EndForm,
        path="/forms/end_silence",
        name="end_silence",
        summary="The button that ends a silence",
        problems=NO_SILENCE,
    )(end_silence)
    add_page(
        app,
        (reads, alert_pages, silences_that_hold),
        settings,
        mailbox=mailbox,
        now=now,
    )
    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its reactions, in one process."""
    settings, bus = runtime.settings_as(PaymentSettings), await runtime.command_bus()
    mailbox = mailbox_of(settings)
    async with (
        ConsistentReads.open(settings, READ_MODEL) as reads,
        alerting(runtime, settings, bus, mailbox) as at_work,
    ):
        checks = {"write_model": bus.ready, "read_model": reads.ready, **at_work}
        yield create_app(bus, reads, settings, mailbox, checks)
