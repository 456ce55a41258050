"""`/v1/models`: what is served, what each can do, and a bundle loaded anew."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.media import described
from niwaki.serving.problems import Problem
from niwaki.serving.served import Served
from niwaki.serving.service import service_of

__all__ = ["ROUTES"]


async def listed(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_record(one) for one in service_of(request).models]})


async def one(request: Request) -> Response:
    return JSONResponse(_record(service_of(request).models.find(request.path_params["name"])))


async def reload(request: Request) -> Response:
    service = service_of(request)
    if not service.settings.keys:
        raise Problem(403, "no_keys", "only a server with keys (--keys) loads bundles anew when it is asked")
    model = service.models.find(request.path_params["name"])
    await model.replace()
    return JSONResponse(_record(model))


def _record(model: Served) -> dict[str, Any]:
    """As OpenAI's clients read it, with what niwaki knows beside it; never where the file lies."""
    bundle, generation = model.bundle, model.generation
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.loaded),
        "owned_by": "niwaki",
        "ready": model.ready,
        "name": bundle.manifest.name,
        "engine": bundle.engine,
        "failure": model.failure,
        "programs": {
            name: {
                "inputs": {key: spec.to_json() for key, spec in program.inputs.items()},
                "output": described(program.output),
                "batch_sizes": list(generation.agreement(name).sizes),
                "same_as_alone": generation.agreement(name).single,
            }
            for name, program in bundle.programs().items()
        },
    }


ROUTES = [
    Route("/v1/models", listed),
    Route("/v1/models/{name}", one),
    Route("/v1/models/{name}/reload", reload, methods=["POST"]),
]
