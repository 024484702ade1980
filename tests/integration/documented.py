"""Every service, and what each says of itself, for tests that know nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from tests.integration.everything import every_service

if TYPE_CHECKING:
    from tests.databases import Databases

FACTOR = "a second factor of a test"
ADMIN = "boss"
"""An administrator's token."""

Document = dict[str, Any]


class World(NamedTuple):
    """Where the services are, and what they say of themselves."""

    urls: dict[str, str]
    documents: dict[str, Document]

    def operations(self) -> Iterator[tuple[str, str, str, Document]]:
        """Service, method, path, and what the document says of it."""
        for name, document in self.documents.items():
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    yield name, method.upper(), path, operation


@contextmanager
def every_document(databases: Databases, free_port: Callable[[], int]) -> Iterator[World]:
    """Every service, with an administrator and a second factor."""
    admin = f"{ADMIN}:admin:{hashlib.sha256(ADMIN.encode()).hexdigest()}"
    changes = {"api_tokens": (admin,), "service_token": ADMIN, "two_fa": FACTOR}
    settings = databases.settings.model_copy(update=changes)
    with every_service(settings, free_port) as urls:
        documents = {
            name: httpx.get(f"{url}/openapi.json", headers={"X-Token": ADMIN}).json()
            for name, url in urls.items()
        }
        yield World(urls, documents)
