"""What the models of requests and answers tell OpenAPI of themselves, beside their fields."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

Value = TypeVar("Value")


def example(**values: Any) -> ConfigDict:  # noqa: ANN401 - whatever JSON has
    """The configuration of a model whose documentation shows these values.

    Args:
        values: of all fields, or of those that somebody who tries it out should send; as in JSON.
    """
    return ConfigDict(json_schema_extra={"examples": [values]})


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


MayBeAbsent = Annotated[Value | SkipJsonSchema[None], Field(json_schema_extra=_without_default)]
"""A field that is left out where it has nothing to say, instead of being null; None stands for
that in the model: `price_source: MayBeAbsent[str] = None`."""
