"""`/v1/outcomes`: what came of serving a user, and where the trial stands."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.problems import Problem
from niwaki.serving.requests import body_of, number_of
from niwaki.serving.service import service_of
from niwaki.serving.trial.trial import Trial
from niwaki_runtime.errors import CallError

__all__ = ["ROUTES"]


async def outcomes(request: Request) -> Response:
    """`user`, `value` in 0 … 1, more is better: on the disk when it is answered."""
    trial = _trial(request)
    service = service_of(request)
    body = await body_of(request, service.limits)
    user = service.user_of(request, body)
    value = number_of(body, "value")
    if user is None or value is None:
        raise CallError('an outcome is {"user": …, "value": 0 … 1}')
    name = trial.plan.name_of(user)
    counted = await asyncio.to_thread(trial.add_outcome, name, float(value))
    return JSONResponse({"written": True, "counted": counted})


async def standing(request: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(_trial(request).standing))


def _trial(request: Request) -> Trial:
    trial = service_of(request).trial
    if trial is None:
        raise Problem(404, "no_trial", "there is no trial here; `niwaki serve A B --ab a:b` has one")
    return trial


ROUTES = [
    Route("/v1/outcomes", outcomes, methods=["POST"]),
    Route("/v1/outcomes", standing),
]
