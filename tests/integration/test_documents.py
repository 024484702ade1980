"""The documents suffice for those who have nothing else: linters, people who try out, generators.

What services answer is compared with them here for the refusals that come before any route, and in
test_openapi.py for everything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPMethod
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import jsonschema
import pytest
from ai_api_lint.rules import create_default_engine
from openapi_spec_validator import validate

from codebase.web.protocol import HEADER_BYTES_MAX
from tests.integration.documented import ADMIN, FACTOR, Document, World, every_document

if TYPE_CHECKING:
    from tests.databases import Databases

NOT_FOR_US = {
    "AI002",  # names in camel case
    "AI011",  # descriptions of 30 characters or more
    "AI013",  # words such as "returns" in every description
    "AI022",  # it follows no reference to an enumeration
    "AI030",  # commands and reports without a body
    "AI031",  # it follows no reference to a model
    "AI034",  # a sentence about a body, beside those about its model
    "AI033",  # the form of a page
    "AI040",  # the page's form is answered with a way back to it
    "AI041",  # commands that are answered without a body
    "AI050",  # paths that older clients know
    "AI051",  # the same
}
"""What we do not do as this linter would."""


@pytest.fixture(scope="module")
def world(new_databases: Callable[[], Databases], free_port: Callable[[], int]) -> Iterator[World]:
    with every_document(new_databases(), free_port) as found:
        yield found


def test_documents_are_valid_and_a_linter_finds_nothing(world: World) -> None:
    linter = create_default_engine()
    found = []
    for name, document in world.documents.items():
        validate(document)
        found += [
            (name, each.method, each.path, each.rule_id, each.message)
            for each in linter.lint(document).findings
            if each.rule_id not in NOT_FOR_US
        ]
    assert not found


def test_operations_are_called_as_their_functions_are(world: World) -> None:
    names: dict[str, list[str]] = {}
    for name, _, _, operation in world.operations():
        names.setdefault(name, []).append(operation["operationId"])
    assert names["create_buy_order"][0] == "put_buy_order"
    assert names["fetch_agents"][:2] == ["get_agents", "get_agents_of_account"]
    for of_service in names.values():
        assert len(of_service) == len(set(of_service))
        assert all(name.isidentifier() for name in of_service)


def test_a_document_says_where_its_service_is(world: World) -> None:
    for name, url in world.urls.items():
        assert [server["url"] for server in world.documents[name]["servers"]] == ["/", url]


def scalars(document: Document) -> Iterator[tuple[str, Mapping[str, Any], object]]:
    """Every value that somebody may have to write or read, with its example, if there is one."""
    for name, schema in document["components"]["schemas"].items():
        of_model = schema.get("examples", [{}])[0]
        for field, value in schema.get("properties", {}).items():
            own = value.get("examples", [None])[0]
            yield f"{name}.{field}", value, of_model.get(field, own)
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] != "header":
                    schema = parameter["schema"]
                    default = schema.get("default")
                    yield parameter["name"], schema, schema.get("examples", [default])[0]


def test_every_value_has_an_example_but_for_keys(world: World) -> None:
    """A constant key would be sent by everybody who tries it out, and then again."""
    without = set()
    for document in world.documents.values():
        for name, schema, example in scalars(document):
            kinds = [schema, *schema.get("anyOf", ())]
            if "key" in name:
                assert example is None, name
            elif any(one.get("type") in {"string", "integer", "number"} for one in kinds) and (
                not any("enum" in one or "const" in one for one in kinds)
            ):
                without |= {name} if example is None else set()
    assert not without


FORMAT_OF_IDS = "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe"


def test_examples_are_what_their_models_allow(world: World) -> None:
    count = 0
    for document in world.documents.values():
        for name, schema in document["components"]["schemas"].items():
            for example in schema.get("examples", ()):
                if name != "Form":
                    jsonschema.validate(example, {**schema, "components": document["components"]})
                    count += 1
    assert count > len(world.documents)


def test_what_is_tried_out_is_taken_and_a_key_is_never_the_same(world: World) -> None:
    """As the documentation's page sends a body: the example of its model, without a key."""
    tried = set()
    for name, method, path, operation in world.operations():
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        reference = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        body = world.documents[name]["components"]["schemas"][reference]["examples"][0]
        assert not any("key" in field for field in body)
        answer = httpx.request(
            method,
            world.urls[name] + re.sub(r"{\w+_id}", FORMAT_OF_IDS, path),
            json=body,
            headers={"X-Token": ADMIN, "TWO-FA": FACTOR, "Idempotency-Key": str(uuid4())},
        )
        tried.add(reference)
        # 404: there is nothing of the id that stands in for one; 409: it was tried out before;
        # 503: there is no price yet.
        assert answer.status_code in {200, 201, 202, 404, 409, 503}, answer.text
    assert tried >= {"PutBuyOrder", "PostAccount", "PostAgent", "Reason"}


def keeps_to(operation: Document, answer: httpx.Response) -> None:
    """Whether a document says this of an answer: its status, and every header that it must have."""
    told = operation["responses"][str(answer.status_code)]
    assert list(told["content"]) == [answer.headers["content-type"]]
    assert set(told["headers"]) >= {"X-Request-Id"}
    for header in ("WWW-Authenticate", "Retry-After", "Allow", "Accept-Encoding"):
        assert (header in told["headers"]) >= (header in answer.headers), header


def sent(world: World, name: str, method: str, path: str, **options: object) -> httpx.Response:
    """One request to an operation, its templates filled in somehow."""
    filled = path.replace("{email}", "bo@example.org")
    for template in re.findall(r"{(\w+_id)}", filled):
        filled = filled.replace(f"{{{template}}}", FORMAT_OF_IDS)
    return httpx.request(method, world.urls[name] + filled, **options)  # type: ignore[arg-type]


def test_refusals_of_every_operation_are_in_its_document(world: World) -> None:
    known = {"X-Token": ADMIN}
    for name, method, path, operation in world.operations():
        needs_a_token = "security" not in operation
        unknown = sent(world, name, method, path)
        assert (unknown.status_code == 401) == needs_a_token
        if needs_a_token:
            keeps_to(operation, unknown)
        twice = sent(world, name, method, path, headers=[("X-Token", ADMIN), ("X-Token", "x")])
        assert twice.status_code == 400
        keeps_to(operation, twice)
        foreign = {**known, "Origin": "http://elsewhere.example"}
        if method != HTTPMethod.GET:
            abroad = sent(world, name, method, path, headers=foreign)
            assert abroad.status_code == 403
            keeps_to(operation, abroad)
        large = sent(world, name, method, path, headers=known, content=b"x" * 1_000_000)
        assert large.status_code == 413
        keeps_to(operation, large)
        wordy = {**known, "X-Padding": "x" * HEADER_BYTES_MAX}
        verbose = sent(world, name, method, path, headers=wordy)
        assert verbose.status_code == 431
        keeps_to(operation, verbose)
        # How long a client may take to say what it wants does not depend on what that is.
        assert "408" in operation["responses"]


def parameters(operation: Document) -> set[str]:
    return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"}


def test_who_reads_a_consistency_token_says_so(world: World) -> None:
    """It is told by what is done with one that is malformed."""
    for name, method, path, operation in world.operations():
        headers = {"X-Token": ADMIN, "Consistency-Token": "?"}
        query = {"currency": "USD"} if path == "/buy" else {}
        answer = sent(world, name, method, path, headers=headers, params=query)
        complains = "Consistency-Token" in answer.text
        assert complains == ("Consistency-Token" in parameters(operation)), (name, method, path)


def test_the_second_factor_is_asked_for_where_the_document_says_so(world: World) -> None:
    asked = set()
    for name, method, path, operation in world.operations():
        if "TWO-FA" in parameters(operation):
            asked.add((name, path))
            refused = sent(world, name, method, path, headers={"X-Token": ADMIN})
            assert refused.status_code == 403
            assert "TWO-FA" in refused.json()["detail"]
            assert "TWO-FA" in operation["responses"]["403"]["description"]
    assert asked == {("create_account", "/dev/erase_db"), ("set_price", "/prices")}


BOOLEANS = [(True, True), (False, False)] + [
    (text, text.lower() == "true") for text in ("true", "True", "TRUE", "false", "False", "FALSE")
]


def test_every_boolean_of_a_body_is_taken_in_every_way_that_clients_write_it(world: World) -> None:
    """`vip` is the only one there is; this fails for a new one, so that it is thought of."""
    found = {
        (name, field)
        for document in world.documents.values()
        for name, schema in document["components"]["schemas"].items()
        for field, value in schema.get("properties", {}).items()
        if value.get("type") == "boolean" and name in bodies(document)
    }
    assert found == {("PostAccount", "vip")}
    for written, meant in BOOLEANS:
        account = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": "nam"}
        answer = sent(
            world,
            "create_account",
            "POST",
            "/accounts",
            json={**account, "vip": written},
            headers={"X-Token": ADMIN},
        )
        assert answer.status_code == 201, written
        assert answer.json()["vip"] is meant
    for written in ("yes", "1", 1, 0, None, "", " true"):
        refused = sent(
            world,
            "create_account",
            "POST",
            "/accounts",
            json={"name": "Ada", "email": "a@example.org", "region": "nam", "vip": written},
            headers={"X-Token": ADMIN},
        )
        assert refused.json()["errors"] == {"vip": ["must be true or false"]}, written


def bodies(document: Document) -> set[str]:
    """The models of all bodies."""
    return {
        media["schema"]["$ref"].rpartition("/")[2]
        for operations in document["paths"].values()
        for operation in operations.values()
        for media in operation.get("requestBody", {}).get("content", {}).values()
        if "$ref" in media["schema"]
    }


def test_every_boolean_of_a_query_is_taken_in_every_case(world: World) -> None:
    found = {
        (name, path, parameter["name"])
        for name, _, path, operation in world.operations()
        for parameter in operation.get("parameters", ())
        if parameter["schema"].get("type") == "boolean"
    }
    assert found == {
        ("compliance", "/agents", "blocked"),
        ("compliance", "/", "blocked"),
        ("fraud_police", "/", "is_fraud"),
        ("fraud_police", "/decisions", "is_fraud"),
    }
    for name, path, field in found:
        for written, _ in BOOLEANS:
            query = {field: str(written)}
            answer = sent(world, name, "GET", path, params=query, headers={"X-Token": ADMIN})
            assert answer.status_code == 200, (path, written)
