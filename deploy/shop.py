"""A small shop: its front page is for the world, its stock is for the other services."""

from fastapi import FastAPI, Request

from duallisten import side

app = FastAPI()


@app.get("/")
def home(request: Request) -> dict[str, str | None]:
    return {"side": side(request), "client": request.client.host if request.client else None}


@app.get("/internal/stock")  # hidden on the public side by --private-path /internal
def stock() -> dict[str, int]:
    return {"apples": 3}
