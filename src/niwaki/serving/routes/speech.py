"""`POST /v1/audio/speech`, as OpenAI's clients ask it: one sound."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from niwaki.modalities import modality_of
from niwaki.serving.media import as_file, source_of
from niwaki.serving.prompts import asked_by
from niwaki.serving.requests import body_of, count_of, gathered, seed_of
from niwaki.serving.service import service_of
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import SAMPLING

__all__ = ["ROUTES"]


async def speech(request: Request) -> Response:
    """A WAV file. `input` is what the model is asked for: a text, or the name of a class; `voice` the class
    of a model that has both."""
    service = service_of(request)
    body = await body_of(request, service.limits)
    model = service.model_for(request, body)
    program = model.bundle.program(SAMPLING)
    if ".wav" not in modality_of(program.output).writers(program.output):
        raise CallError(f"this model makes {program.output.modality}, no sounds")
    if body.get("response_format") not in (None, "wav"):
        raise CallError("sounds come as WAV: set response_format to 'wav'")
    seed = seed_of(body)
    items = await model.submit(
        SAMPLING, 1, seed=seed, start=count_of(body, "start", default=0), options=body.get("options"),
        inputs=asked_by(model.bundle, program, body.get("input"), body.get("conditions")),
    )  # fmt: skip
    (found,) = await gathered(request, items, service.limits)
    kind, data = as_file(found, program.output, source_of(items[0]))
    return Response(data, headers={"Content-Type": kind, "X-Seed": str(seed)})


ROUTES = [Route("/v1/audio/speech", speech, methods=["POST"])]
