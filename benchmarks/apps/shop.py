"""A FastAPI application with one JSON route, whose answer pydantic checks and writes."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel


class Item(BaseModel):
    """What is sold."""

    name: str
    price: float
    tags: list[str]


app = FastAPI()


@app.get("/items/{number}")
async def item(number: int, size: str = "m") -> Item:
    """Give one item."""
    return Item(name=f"apple {number}", price=1.5, tags=["fruit", size])
