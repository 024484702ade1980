"""What the page of an OpenAPI document shows: operations, models, and forms that try them out.

It is made here, and can be read without a script; its one script sends what the forms hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from codebase.web.html import Pages, security_headers

Schema = Mapping[str, Any]

TEMPLATE = "api_docs.html"
SCRIPT = (files("codebase.web") / "templates/api_docs.js").read_text(encoding="utf-8").strip()
MODEL = "#/components/schemas/"
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "minLength": "characters at least",
    "maxLength": "characters at most",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A parameter, or a field of a model; `place` is path, query, header or body.

    `model` is the one that its kind speaks of, if any. What is secret is typed unseen.
    """

    name: str
    place: str
    kind: str
    model: str | None
    is_required: bool
    description: str
    example: str
    is_secret: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What may be answered."""

    status: str
    description: str
    model: str | None
    headers: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What may be sent: its media type, its model and an example."""

    media_type: str
    model: str | None
    example: str
    is_required: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A method of a path."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[Field]
    body: Body | None
    answers: Sequence[Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A named form of JSON."""

    name: str
    kind: str
    description: str
    fields: Sequence[Field]


def api_page(document: Schema, address: str) -> tuple[str, dict[str, str]]:
    """The page of a document, and its headers.

    Args:
        document: an OpenAPI document of ours.
        address: where it is.
    """
    pages = Pages("codebase.web")
    parts: dict[str, list[Operation]] = {}
    for tag, operation in operations(document):
        parts.setdefault(tag, []).append(operation)
    text = pages.render(
        TEMPLATE,
        links=[],
        script=SCRIPT,
        title=document["info"]["title"],
        description=document["info"].get("description", ""),
        address=address,
        parts=parts,
        models=[_model(name, schema) for name, schema in sorted(_models(document).items())],
    )
    return text, security_headers(pages.style, SCRIPT)


def operations(document: Schema) -> Iterator[tuple[str, Operation]]:
    """Every operation of a document with the part that it belongs to."""
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            yield told.get("tags", [""])[0], _operation(document, path, method.upper(), told)


def _operation(document: Schema, path: str, method: str, told: Schema) -> Operation:
    return Operation(
        id=told["operationId"],
        method=method,
        path=path,
        summary=told.get("summary", ""),
        description=told.get("description", ""),
        parameters=[_parameter(each) for each in told.get("parameters", ())],
        body=_body(document, told["requestBody"]) if "requestBody" in told else None,
        answers=[_answer(status, each) for status, each in sorted(told["responses"].items())],
    )


def _parameter(told: Schema) -> Field:
    return _field(
        told["name"],
        {"description": told.get("description", ""), **told["schema"]},
        place=told["in"],
        is_required=told.get("required", False),
    )


def _field(name: str, schema: Schema, *, place: str, is_required: bool) -> Field:
    return Field(
        name=name,
        place=place,
        kind=kind_of(schema),
        model=next(_named(schema), None),
        is_required=is_required,
        description=schema.get("description", ""),
        example=_text(next(iter(schema.get("examples", ())), "")),
        is_secret=schema.get("format") == "password",
    )


def _body(document: Schema, told: Schema) -> Body:
    media_type, content = next(iter(told["content"].items()))
    name = next(_named(content["schema"]), None)
    schema = _models(document)[name] if name else content["schema"]
    return Body(
        media_type=media_type,
        model=name,
        example=_text(next(iter(schema.get("examples", ())), {})),
        is_required=told.get("required", False),
    )


def _answer(status: str, told: Schema) -> Answer:
    schemas = (content.get("schema", {}) for content in told.get("content", {}).values())
    return Answer(
        status=status,
        description=told["description"],
        model=next((name for schema in schemas for name in _named(schema)), None),
        headers=", ".join(told.get("headers", ())),
    )


def _models(document: Schema) -> Schema:
    models: Schema = document.get("components", {}).get("schemas", {})
    return models


def _model(name: str, schema: Schema) -> Model:
    required = schema.get("required", ())
    return Model(
        name=name,
        kind=kind_of(schema),
        description=schema.get("description", ""),
        fields=[
            _field(field, told, place="body", is_required=field in required)
            for field, told in schema.get("properties", {}).items()
        ],
    )


def _named(schema: Schema) -> Iterator[str]:
    """The models that a schema refers to."""
    if "$ref" in schema:
        yield schema["$ref"].removeprefix(MODEL)
    several = (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()))
    for each in (*several, schema.get("items")):
        if isinstance(each, Mapping):
            yield from _named(each)


def kind_of(schema: Schema) -> str:
    """What a value has to be, in words."""
    if "$ref" in schema:
        return str(schema["$ref"].removeprefix(MODEL))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(map(_text, schema["enum"]))
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(map(kind_of, schema[several]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    return _plain_kind(schema)


def _plain_kind(schema: Schema) -> str:
    bounds = (
        f"{words} {schema[name]}" if "Length" not in name else f"{schema[name]} {words}"
        for name, words in BOUNDS.items()
        if name in schema
    )
    kinds = schema.get("type", "anything")
    kind = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return ", ".join(filter(None, [kind, schema.get("format"), *bounds]))


def _text(value: object) -> str:
    """A value as somebody would type it."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
