"""What the page's forms send: the same requests as by JSON, in the way of browsers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Request
from pydantic import ValidationError, field_validator

from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.errors import invalid
from codebase.foundation.validation import explain
from codebase.model.accounts.compliance_case import COMPLIANCE_CASE, MakeRequest, case_of
from codebase.model.accounts.compliance_case import Action as Wanted
from codebase.model.actor import Actor
from codebase.services.compliance.desk import CATEGORY
from codebase.views.accounts.compliance_requests import Action
from codebase.web.auth import Caller
from codebase.web.exchange import exchange_of
from codebase.web.fields import FromText, Text
from codebase.web.request_body import RequestBody, require_media_type
from codebase.web.schemas import example

FORM_TYPE = "application/x-www-form-urlencoded"
FIELDS_MAX = 10


class Reason(RequestBody):
    """Why an agent is to be blocked or unblocked."""

    model_config = example(reason="The account is 60 days overdue")

    reason: Text | None = None


class Form(Reason):
    """A button that was pressed; `key` is the same however often that one was."""

    model_config = example(
        agent_id="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        action="block",
        reason="The account is 60 days overdue",
    )

    agent_id: FromText[UUID]
    action: Action
    key: FromText[UUID]

    @field_validator("reason", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    def submission(self, caller: Caller, request_id: str) -> Submission:
        """What is asked for, as it would be by JSON.

        Args:
            caller: who asks.
            request_id: of this attempt.
        """
        key, agent_id = str(self.key), self.agent_id
        return Submission(
            aggregate=COMPLIANCE_CASE,
            stream_id=case_of(agent_id),
            command=MakeRequest(
                request_id=creation_stream_id(caller.name, CATEGORY, key),
                agent_id=agent_id,
                action=Wanted(self.action),
                reason=self.reason,
                requested_by=caller.name,
            ),
            idempotence_key=key,
            content=Content.of(
                f"{self.action}_agent", Reason(reason=self.reason), {"agent_id": agent_id}
            ),
            actor=Actor(caller.name, caller.is_admin),
            command_id=request_id,
        )


FORM_DOCUMENTATION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {FORM_TYPE: {"schema": Form.model_json_schema()}},
    }
}


async def read_form(request: Request) -> Form:
    """The form in a request's body.

    Raises:
        HttpProblem: 415.
        InvalidInputError: naming each field; nothing of the input is repeated.
    """
    require_media_type(exchange_of(request.scope).headers, FORM_TYPE)
    try:
        text = (await request.body()).decode()
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise invalid("body", "must be a form in UTF-8") from None
    try:
        return Form.model_validate(dict(fields))
    except ValidationError as error:
        raise explain(error.errors(include_url=False, include_input=False)) from None
