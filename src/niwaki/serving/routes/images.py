"""`POST /v1/images/generations`, as OpenAI's clients ask it."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.batcher import Item
from niwaki.serving.media import answers, as_file, encoded, source_of
from niwaki.serving.problems import Problem
from niwaki.serving.prompts import asked_by
from niwaki.serving.requests import body_of, count_of, gathered, number_of, seed_of
from niwaki.serving.screening import with_screening
from niwaki.serving.service import service_of
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import ValueSpec

__all__ = ["ROUTES"]


async def generations(request: Request) -> Response:
    """Pictures as PNG in base64. Sample i of a seed is picture i, whoever else asks meanwhile."""
    service = service_of(request)
    body = await body_of(request, service.limits)
    model = service.model_for(request, body)
    program = model.bundle.program(SAMPLING)
    _check(body, program.output)
    seed, n = seed_of(body), count_of(body, "n", default=1)
    named = {
        "steps": count_of(body, "num_inference_steps", "steps"),
        "guidance": number_of(body, "guidance_scale", "guidance"),
    }
    options = {**(body.get("options") or {}), **{k: v for k, v in named.items() if v is not None}}
    conditions = body.get("conditions", body.get("class"))
    items = await model.submit(
        SAMPLING, n, seed=seed, start=count_of(body, "start", default=0), options=options,
        inputs=asked_by(model.bundle, program, body.get("prompt"), conditions),
    )  # fmt: skip
    found = await gathered(request, items, service.limits)
    data = await answers(found, items, lambda one, item: _entry(one, item, program.output))
    return JSONResponse({"created": int(time.time()), "model": model.name, "seed": seed, "data": data})


def _entry(found: Any, item: Item, spec: ValueSpec) -> dict[str, Any]:
    if isinstance(found, Problem):
        return with_screening({"error": found.to_json()}, item)
    return with_screening({"b64_json": encoded(as_file(found, spec, source_of(item))[1])}, item)


def _check(body: dict[str, Any], spec: ValueSpec) -> None:
    """Raises CallError for what no model of pictures can answer."""
    if spec.axes != "CHW" or spec.shape[0] not in (1, 3, 4):
        raise CallError(
            f"this model makes {spec.modality}, no pictures; POST /v1/run/sample gives its numbers"
        )
    _, height, width = spec.shape
    size = body.get("size")
    if size not in (None, "auto", f"{width}x{height}"):
        raise CallError(f"this model makes pictures of {width}x{height}, not {size!r:.40}")
    if body.get("response_format") not in (None, "b64_json"):
        raise CallError("pictures come in the answer, response_format 'b64_json': none are stored to link to")
    if body.get("output_format") not in (None, "png"):
        raise CallError("pictures come as PNG; leave output_format out")


ROUTES = [Route("/v1/images/generations", generations, methods=["POST"])]
