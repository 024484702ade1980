"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.foundation.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases


@pytest.fixture
def with_broker(databases: Databases, rabbitmq_server: RabbitUnderTest) -> Iterator[Settings]:
    """Settings of this test's databases and of a virtual host of its own."""
    name = uuid4().hex
    url = rabbitmq_server.add_vhost(name)
    yield databases.settings.model_copy(update={"broker_url": url, "read_model_check_seconds": 0.2})
    rabbitmq_server.delete_vhost(name)
