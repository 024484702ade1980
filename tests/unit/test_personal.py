"""What operators are not shown, and what it costs to leave it out."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter

from codebase.foundation import validation
from codebase.foundation.settings import Settings
from codebase.web.personal import HIDDEN, Personal
from codebase.web.shell import assemble, service_app

OPERATOR = f"watch:operator:{sha256(b'watch').hexdigest()}"


class Person(BaseModel):
    """Somebody."""

    name: Personal[str]


def test_how_an_answer_is_read_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes milliseconds."""
    found_out: list[object] = []

    def noted(kind: object) -> TypeAdapter[object]:
        found_out.append(kind)
        return TypeAdapter(kind)

    monkeypatch.setattr(validation, "TypeAdapter", noted)
    app = service_app("people", checks={})

    @app.get("/person")
    async def get_person() -> Person:
        """A person."""
        return Person(name="Bo")

    settings = Settings.model_validate({"api_tokens": [OPERATOR]})

    async def scenario() -> None:
        transport = httpx.ASGITransport(assemble([app], settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://people") as client:
            for _ in range(3):
                answer = await client.get("/person", headers={"X-Token": "watch"})
                assert answer.json() == {"name": HIDDEN}

    asyncio.run(scenario())
    assert found_out == [Person]
