"""`POST /v1/run/{program}`: any program of any bundle, numbers in and numbers out."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.batcher import Item
from niwaki.serving.media import answers, as_file, as_numbers, described, encoded, source_of
from niwaki.serving.problems import Problem
from niwaki.serving.prompts import asked_by
from niwaki.serving.requests import body_of, count_of, gathered, seed_of
from niwaki.serving.screening import screenings
from niwaki.serving.service import service_of
from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec

__all__ = ["ROUTES"]

FORMS = ("json", "file")


async def run(request: Request) -> Response:
    """Results start … start+n−1 of a seed. `inputs` are by name, a value for all or a list with one for each
    sample; `form` is `json` (nested lists) or `file` (as the modality writes it, in base64)."""
    service = service_of(request)
    body = await body_of(request, service.limits)
    model = service.model_for(request, body)
    name = request.path_params["program"]
    program = model.bundle.program(name)
    form = body.get("form", "json")
    if form not in FORMS:
        raise CallError(f"'form' must be json or file, not {form!r:.40}")
    seed = seed_of(body)
    items = await model.submit(
        name, count_of(body, "n", default=1), seed=seed, start=count_of(body, "start", default=0),
        inputs=asked_by(model.bundle, program, None, body.get("inputs")), options=body.get("options"),
    )  # fmt: skip
    found = await gathered(request, items, service.limits)
    entries = await answers(found, items, lambda one, item: _entry(one, item, program.output, form))
    return JSONResponse(
        {
            "model": model.name,
            "program": name,
            "seed": seed,
            "output": described(program.output),
            "data": entries,
            **screenings(items),
        }
    )


def _entry(found: Any, item: Item, spec: ValueSpec, form: str) -> Any:
    if isinstance(found, Problem):
        return {"error": found.to_json()}
    if form == "json":
        return as_numbers(found)
    kind, data = as_file(found, spec, source_of(item))
    return {"media_type": kind, "data": encoded(data)}


ROUTES = [Route("/v1/run/{program}", run, methods=["POST"])]
