"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.engine.messages import command_sender, connection
from codebase.foundation.postgres import LIVELINESS
from codebase.foundation.settings import Settings
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases


@pytest.fixture(scope="session", autouse=True)
def _patient_connections() -> Iterator[None]:
    """To servers that are there, and may be slow to say so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIVELINESS, "connect_timeout", int(PATIENCE_SECONDS))
        patch.setattr(connection, "CONNECT_DEADLINE_SECONDS", PATIENCE_SECONDS)
        patch.setattr(connection, "HANDSHAKE_DEADLINE_SECONDS", PATIENCE_SECONDS)
        patch.setattr(command_sender, "REQUEST_DEADLINE_SECONDS", PATIENCE_SECONDS)
        patch.setattr(command_sender, "PUBLISH_DEADLINE_SECONDS", PATIENCE_SECONDS)
        yield


@pytest.fixture
def with_broker(databases: Databases, rabbitmq_server: RabbitUnderTest) -> Iterator[Settings]:
    """Settings of this test's databases and of a virtual host of its own."""
    name = uuid4().hex
    url = rabbitmq_server.add_vhost(name)
    yield databases.settings.model_copy(update={"broker_url": url, "read_model_check_seconds": 0.2})
    rabbitmq_server.delete_vhost(name)
