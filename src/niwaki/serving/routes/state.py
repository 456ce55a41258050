"""`/health`: the process answers. `/ready`: so do all models. `/metrics`: the counts."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.metrics import CONTENT_TYPE
from niwaki.serving.service import service_of

__all__ = ["ROUTES"]


async def health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    models = service_of(request).models
    return JSONResponse(
        {"ready": models.ready, "models": {one.name: one.ready for one in models}},
        200 if models.ready else 503,
    )


async def metrics(request: Request) -> Response:
    service = service_of(request)
    text = service.metrics.text((one.name, one.queued) for one in service.models)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


ROUTES = [Route("/health", health), Route("/ready", ready), Route("/metrics", metrics)]
