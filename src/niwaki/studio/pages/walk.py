"""From one sample to another through the noise of both, in equal steps of a great circle."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.contract import CallError
from niwaki.modalities import modality_of
from niwaki.serving.limits import check_work
from niwaki.serving.requests import body_of, count_of
from niwaki.studio.forms import asked_of, words_of
from niwaki.studio.models import Model
from niwaki.studio.page import Page, register_page
from niwaki.studio.pages.sample import LIMITS, described, listed
from niwaki.uses import Call, find_use
from niwaki_runtime.programs import SAMPLING

__all__ = ["Walk"]

_MOST = 33
"""Samples on a way."""


@register_page("walk")
class Walk(Page):
    """The use `interpolate` between drawn samples. Only for models whose samples follow from normal noise:
    tokens are chosen by uniforms, between which there is no way."""

    title = "Walk"
    order = 40
    scripts = ("forms.js",)

    def lacks(self) -> str:
        if self._walked():
            return ""
        return "No model here makes its samples from normal noise, so there is no way between two of them."

    def _walked(self) -> list[Model]:
        return [
            model
            for model in self.sources.with_program(SAMPLING)
            if not (model.output.is_tokens or model.programs[SAMPLING].sampler.draws_tokens)
        ]

    def routes(self) -> list[Route]:
        return [
            Route("/walk/models", self._models),
            Route("/walk/model", self._model, methods=["POST"]),
            Route("/walk/way", self._way, methods=["POST"]),
        ]

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"models": listed(await asyncio.to_thread(self._walked))})

    async def _model(self, request: Request) -> Response:
        """`model`: what it can be asked for."""
        body = await body_of(request, LIMITS)
        found = await asyncio.to_thread(
            lambda: described(self.sources.model(body.get("model", "")), SAMPLING)
        )
        return JSONResponse({**found, "settings": []})

    async def _way(self, request: Request) -> Response:
        """`model`, `seed`, `between` (numbers of two samples), `steps`, `asked`."""
        body = await body_of(request, LIMITS)
        return JSONResponse(await asyncio.to_thread(self._made, body))

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        model, seed = self.sources.model(body.get("model", "")), count_of(body, "seed", default=0)
        steps, between = count_of(body, "steps", default=9), body.get("between", [0, 1])
        if not 2 <= steps <= _MOST:
            raise CallError(f"a way has 2 … {_MOST} samples, not {steps}")
        if not isinstance(between, list) or len(between) != 2 or between[0] == between[1]:
            raise CallError(f"'between' must be the numbers of two samples, not {between!r:.60}")
        use = find_use("interpolate")
        options = use.options({"steps": steps, "between": between})
        with model.held() as runner:
            program = runner.program(SAMPLING)
            check_work(program, {}, LIMITS)
            asked = asked_of(model, SAMPLING, body.get("asked"), 1, between[0])
            whole = {name: rows[0] for name, rows in asked.items()}
            found = use.apply(Call(runner, model.path, asked=whole or None, seed=seed, local=False), options)
        spec, x = found.spec, found.x
        assert spec is not None
        assert x is not None
        shown = [vars(modality_of(spec).show(one, spec, runner.files)) for one in x]
        return {"samples": shown, "asked": words_of(runner, program, asked, 0)}
