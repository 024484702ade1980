"""A store has room for one billing: of one region, or of all."""

from __future__ import annotations

import logging

import psycopg

from codebase.engine.projections.projection import Projector
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.postgres import connect_async, trouble
from codebase.foundation.settings import Settings

logger = logging.getLogger(__name__)

READ_OTHERS = """
    SELECT DISTINCT projector FROM projection_checkpoint
    WHERE starts_with(projector, 'billing') AND projector <> %(mine)s
"""


async def refuse_beside_another(settings: Settings, projector: Projector) -> None:
    """Refuse to start where another region's billing, or that of all regions, has begun.

    A store that cannot be asked now refuses later, by the index `one_billing_per_store`.

    Raises:
        ConfigurationError: with what to do about it.
    """
    try:
        url = settings.required("read_model_url")
        async with await connect_async(url, projector.name) as store:
            found = await (await store.execute(READ_OTHERS, {"mine": projector.name})).fetchall()
    except psycopg.Error as error:
        logger.warning("cannot see whether another billing is here: %s", trouble(error))
        return
    if found:
        raise ConfigurationError(
            f"BILLING_REGION: this store belongs to {found[0][0]}, and not to {projector.name};"
            " give each billing a read-model store of its own"
        )
