"""The application in the picture of the status page."""

from __future__ import annotations

import asyncio
import random

from fastapi import FastAPI

from duallisten.fastapi import PrivateRouter
from duallisten.starlette import public

app = FastAPI(docs_url=None, redoc_url=None)
internal = PrivateRouter(prefix="/internal")
chance = random.Random(1)


@app.get("/")
@public
async def home() -> dict[str, str]:
    await asyncio.sleep(chance.lognormvariate(-6, 0.5))
    return {"shop": "open"}


@app.get("/products/{number}")
@public
async def product(number: int) -> dict[str, int]:
    await asyncio.sleep(chance.lognormvariate(-5.5, 0.6))
    return {"number": number}


@internal.get("/stock")
async def stock() -> dict[str, int]:
    await asyncio.sleep(chance.lognormvariate(-6.5, 0.4))
    return {"apples": 3}


app.include_router(internal)
