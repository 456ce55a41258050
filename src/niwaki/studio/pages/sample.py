"""Samples of one or more models: the same seed, asked for the same, side by side or one over the other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.modalities import modality_of
from niwaki.serving.requests import body_of, count_of
from niwaki.serving.settings import Limits
from niwaki.studio.forms import asked_of, fields_of, settings_of, words_of
from niwaki.studio.models import Model
from niwaki.studio.page import Page, register_page
from niwaki_runtime.programs import SAMPLING

__all__ = ["Sample", "described", "listed"]

LIMITS = Limits(body=1 << 20)


@register_page("sample")
class Sample(Page):
    """Sample i of a seed is the same whenever, and with whatever else, it is asked for."""

    title = "Samples"
    order = 10
    scripts = ("forms.js",)

    def lacks(self) -> str:
        return "" if self.sources.models() else "There is no trained model and no bundle here yet."

    def routes(self) -> list[Route]:
        return [
            Route("/sample/models", self._models),
            Route("/sample/model", self._model, methods=["POST"]),
            Route("/sample/make", self._make, methods=["POST"]),
        ]

    async def _models(self, request: Request) -> Response:
        models = await asyncio.to_thread(self.sources.models)
        return JSONResponse({"models": listed(list(models.values()))})

    async def _model(self, request: Request) -> Response:
        """`model`: what it makes, and what it can be asked for and told."""
        body = await body_of(request, LIMITS)
        return JSONResponse(
            await asyncio.to_thread(lambda: described(self.sources.model(body.get("model", "")), SAMPLING))
        )

    async def _make(self, request: Request) -> Response:
        """`model`, `seed`, `start`, `n`, `asked` (by condition), `settings` (of the sampler)."""
        body = await body_of(request, LIMITS)
        return JSONResponse(await asyncio.to_thread(self._made, body))

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        model = self.sources.model(body.get("model", ""))
        seed, start, n = (
            count_of(body, name, default=usual) for name, usual in (("seed", 0), ("start", 0), ("n", 1))
        )
        with model.held() as runner:
            program = runner.program(SAMPLING)
            asked = asked_of(model, SAMPLING, body.get("asked"), max(1, min(n, LIMITS.samples)), start)
            began = time.perf_counter()
            made = model.run(
                SAMPLING, n, seed=seed, start=start, inputs=asked, options=body.get("settings"), limits=LIMITS
            )
            seconds = time.perf_counter() - began
        spec = program.output
        samples = [
            {
                "number": start + i,
                "asked": words_of(runner, program, asked, i),
                **vars(modality_of(spec).show(x, spec, runner.files)),
            }
            for i, x in enumerate(made)
        ]
        return {"model": model.name, "seed": seed, "samples": samples, "seconds": seconds}


def listed(models: list[Model]) -> list[dict[str, str]]:
    """For a choice of models."""
    return [{"name": model.name, "what": model.what} for model in models]


def described(model: Model, program: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """One model for a form: what it is, what a program of it makes, can be asked for and told.

    without: inputs that the page gives by other means
    """
    runner = model.runner
    asked = runner.program(program)
    spec = asked.output
    return {
        "name": model.name,
        "what": model.what,
        "modality": spec.modality,
        "shape": list(spec.shape),
        "fields": fields_of(runner, asked, without),
        "settings": settings_of(asked),
    }
