"""Subscribers read docs/asyncapi.json: it must say what the model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from codebase.infra.asyncapi import document
from codebase.model.catalogue import AGGREGATES

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "asyncapi.json").read_text())
EXAMPLES = json.loads((Path(__file__).parent / "golden_events.json").read_text())


def test_the_published_document_is_up_to_date() -> None:
    assert document(AGGREGATES) == PUBLISHED, "run: .venv/bin/orderly asyncapi > docs/asyncapi.json"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one["type"])
def test_stored_events_fit_their_schema(example: dict[str, Any]) -> None:
    schema = {**PUBLISHED["components"]["schemas"][example["type"]], **PUBLISHED}
    jsonschema.validate(example["data"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)
