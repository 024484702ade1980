"""Parcels, put together: nothing outside this folder knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from pydantic import Field

from codebase.engine.context import Context
from codebase.foundation.settings import Settings, extended
from tests.parcels.parcel import PARCEL, WEIGHT
from tests.parcels.view import PARCELS


class ParcelSettings(Settings):
    floor_bears_kg: Decimal = Field(Decimal(100), gt=0)


def budgets(settings: Settings) -> Mapping[str, Decimal]:
    return {WEIGHT: extended(settings, ParcelSettings).floor_bears_kg}


PARCEL_CONTEXT = Context(
    name="parcels",
    aggregates=(PARCEL,),
    projections=(PARCELS,),
    settings=ParcelSettings,
    budgets=budgets,
    migrations={"read_model": Path(__file__).parent / "migrations"},
    services="tests.parcels.services",
)
