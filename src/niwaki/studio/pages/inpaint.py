"""Parts of a picture painted over with a brush, and made anew: the use `inpaint`."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.contract import CallError
from niwaki.modalities import modality_of
from niwaki.serving.limits import check_work
from niwaki.serving.requests import body_of, count_of
from niwaki.serving.settings import Limits
from niwaki.serving.uploads import store
from niwaki.studio.forms import asked_of
from niwaki.studio.models import Model
from niwaki.studio.page import Page, register_page
from niwaki.studio.pages.sample import described, listed
from niwaki.uses import Call, find_use
from niwaki.uses.made_anew import PROGRAM
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["Inpaint"]

_LIMITS = Limits(samples=12)
_GIVEN = ("known", "mask")
_EXAMPLES = 12


@register_page("inpaint")
class Inpaint(Page):
    """Pictures come as PNG of the model's own size: the page brings what is uploaded to it."""

    title = "Inpaint"
    order = 50
    scripts = ("forms.js",)

    def lacks(self) -> str:
        return "" if self._models() else f"No model here makes pictures and has the program '{PROGRAM}'."

    def _models(self) -> list[Model]:
        return [model for model in self.sources.with_program(PROGRAM) if model.output.axes == "CHW"]

    def routes(self) -> list[Route]:
        return [
            Route("/inpaint/models", self._listed),
            Route("/inpaint/model", self._model, methods=["POST"]),
            Route("/inpaint/make", self._make, methods=["POST"]),
        ]

    async def _listed(self, request: Request) -> Response:
        return JSONResponse({"models": listed(await asyncio.to_thread(self._models))})

    async def _model(self, request: Request) -> Response:
        """`model`: what it can be asked for, and pictures of its data to begin with."""
        body = await body_of(request, _LIMITS)
        return JSONResponse(await asyncio.to_thread(self._described, body.get("model", "")))

    def _described(self, name: str) -> dict[str, Any]:
        model = self.sources.model(name)
        found = described(model, PROGRAM, _GIVEN)
        found["settings"] = [one for one in found["settings"] if one["name"] == "steps"]
        examples = [modality_of(model.output).show(x, model.output).data for x in model.real(_EXAMPLES)]
        return {**found, "examples": examples}

    async def _make(self, request: Request) -> Response:
        """`model`, `picture` and `mask` (PNG of the model's size, white where it is to be made), `n`, `seed`,
        `asked`, `settings` (`steps`), `repeats`."""
        body = await body_of(request, _LIMITS)
        return JSONResponse(await asyncio.to_thread(self._made, body))

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        model = self.sources.model(body.get("model", ""))
        n, seed = count_of(body, "n", default=4), count_of(body, "seed", default=0)
        if not 0 < n <= _LIMITS.samples:
            raise CallError(f"1 … {_LIMITS.samples} pictures are made at once, not {n}")
        given, steps = body.get("asked") or {}, count_of(body.get("settings") or {}, "steps", default=0)
        with model.held() as runner, scratch_directory() as folder:
            check_work(runner.program(PROGRAM), {"steps": steps} if steps else {}, _LIMITS)
            rows = asked_of(model, PROGRAM, given, n, without=_GIVEN) if given else {}
            asked = {name: rows[name] for name in given} or None
            (picture,) = store({"name": "picture.png", "data": body.get("picture")}, folder, _LIMITS)
            (mask,) = store({"name": "mask.png", "data": body.get("mask")}, folder, _LIMITS, "mask")
            use = find_use("inpaint")
            options = use.options(
                {"mask": str(mask), "steps": steps, "repeats": count_of(body, "repeats", default=5)}
            )
            call = Call(runner, model.path, [picture] * n, asked=asked, seed=seed, local=False)
            try:
                found = use.apply(call, options)
            except CallError as error:  # where files lie for a moment is not for the page
                raise CallError(str(error).replace(f"{folder}/", "")) from None
        assert found.x is not None
        spec = model.output
        return {"samples": [vars(modality_of(spec).show(x, spec)) for x in np.asarray(found.x)]}
