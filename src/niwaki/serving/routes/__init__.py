"""The routes, one file each; `ROUTES` are all of them."""

from __future__ import annotations

from starlette.routing import Route

from niwaki.serving.routes import (
    chat,
    completions,
    images,
    models,
    outcomes,
    run,
    speech,
    state,
    uses,
)

__all__ = ["ROUTES"]

ROUTES: list[Route] = [
    *state.ROUTES,
    *models.ROUTES,
    *images.ROUTES,
    *completions.ROUTES,
    *chat.ROUTES,
    *speech.ROUTES,
    *run.ROUTES,
    *uses.ROUTES,
    *outcomes.ROUTES,
]
