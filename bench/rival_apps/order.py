"""What all of them are asked for, and what they decide it by."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

CLIENT = "local"
RATE = Decimal("48478.88")
SOURCE = "demo"
SATOSHI = Decimal("0.00000001")


class PutBuyOrder(BaseModel):
    """The body of a request."""

    currency: str
    amount: Decimal
    idempotence_key: str


def btc_for(amount: Decimal) -> Decimal:
    """What an amount of money is in bitcoins."""
    return (amount / RATE).quantize(SATOSHI, rounding=ROUND_UP)


def serve(app: FastAPI, port: int) -> None:
    """Serve until SIGTERM, on the server that this project uses too."""

    @app.get("/readyz")
    async def ready() -> None:
        """It is."""

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False)
