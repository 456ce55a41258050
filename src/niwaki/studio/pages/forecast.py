"""How series go on: the past, and the fan of what may come, of examples of the data or of a table that is
brought."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.serving.requests import body_of, count_of
from niwaki.serving.settings import Limits
from niwaki.studio.models import Model
from niwaki.studio.page import Page, register_page
from niwaki.studio.pages.sample import listed
from niwaki.uses import Call, find_use
from niwaki.uses.forecast import PAST, PROGRAM
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["Forecast"]

_LIMITS = Limits(body=4 << 20, samples=400)
_EXAMPLES = 24
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


@register_page("forecast")
class Forecast(Page):
    """Quantiles over paths that the model draws; of an example beside what really came."""

    title = "Forecast"
    order = 70
    scripts = ("chart.js",)

    def lacks(self) -> str:
        return "" if self._models() else f"No model here has a program '{PROGRAM}' that is given a past."

    def _models(self) -> list[Model]:
        return [m for m in self.sources.with_program(PROGRAM) if PAST in m.programs[PROGRAM].inputs]

    def routes(self) -> list[Route]:
        return [
            Route("/forecast/models", self._listed),
            Route("/forecast/model", self._model, methods=["POST"]),
            Route("/forecast/example", self._example, methods=["POST"]),
            Route("/forecast/table", self._table, methods=["POST"]),
        ]

    async def _listed(self, request: Request) -> Response:
        return JSONResponse({"models": listed(await asyncio.to_thread(self._models))})

    async def _model(self, request: Request) -> Response:
        """`model`: its channels, how far it reads back and says on, and how many examples there are."""
        body = await body_of(request, _LIMITS)

        def described() -> dict[str, Any]:
            model = self.sources.model(body.get("model", ""))
            program = model.programs[PROGRAM]
            rows = model.examples(PROGRAM, _EXAMPLES).get(PAST, ())
            past = program.inputs[PAST].value
            channels = past.names or tuple(f"channel {i + 1}" for i in range(past.shape[0]))
            reach = {"past": past.shape[-1], "steps": program.output.shape[-1]}
            return {"channels": list(channels), **reach, "examples": len(rows)}

        return JSONResponse(await asyncio.to_thread(described))

    async def _example(self, request: Request) -> Response:
        """`model`, `example` (its number), `paths`, `seed`."""
        body = await body_of(request, _LIMITS)
        return JSONResponse(await asyncio.to_thread(self._forecast, body))

    def _forecast(self, body: dict[str, Any]) -> dict[str, Any]:
        model, number = self.sources.model(body.get("model", "")), count_of(body, "example", default=0)
        paths, seed = count_of(body, "paths", default=100), count_of(body, "seed", default=0)
        if paths < 2:
            raise CallError(f"quantiles need 2 paths or more, not {paths}")
        rows = model.examples(PROGRAM, _EXAMPLES)
        if PAST not in rows or not 0 <= number < len(rows[PAST]):
            raise CallError(f"there is no example {number} of '{model.name}'")
        given = {name: np.repeat(values[number : number + 1], paths, 0) for name, values in rows.items()}
        made = model.run(PROGRAM, paths, seed=seed, start=0, inputs=given, options={}, limits=_LIMITS)
        shape = model.programs[PROGRAM].output.shape
        said = np.quantile(
            made.reshape(paths, -1, shape[-1]).astype(np.float64), _LEVELS, axis=0, method="weibull"
        )
        real = model.real(number + 1)
        came = real[number].reshape(-1, shape[-1]) if len(real) > number and real.shape[1:] == shape else None
        past = rows[PAST][number].reshape(said.shape[1], -1)
        found: dict[str, Any] = jsonable(
            {
                "levels": _LEVELS,
                "channels": [
                    {
                        "past": past[c].tolist(),
                        "quantiles": said[:, c].tolist(),
                        "came": [] if came is None else came[c].tolist(),
                        "paths": made.reshape(paths, -1, shape[-1])[:6, c].tolist(),
                    }
                    for c in range(said.shape[1])
                ],
            }
        )
        return found

    async def _table(self, request: Request) -> Response:
        """`model`, `csv` (a table as the use `forecast` reads it), `paths`, `seed`: rows of quantiles."""
        body = await body_of(request, _LIMITS)
        return JSONResponse(await asyncio.to_thread(self._of_table, body))

    def _of_table(self, body: dict[str, Any]) -> dict[str, Any]:
        text, model = body.get("csv"), self.sources.model(body.get("model", ""))
        if not isinstance(text, str) or not text.strip():
            raise CallError("bring a table as CSV: a line of titles, then a line for each step")
        use = find_use("forecast")
        options = use.options({"paths": count_of(body, "paths", default=100)})
        with model.held() as runner, scratch_directory() as folder:
            file = folder / "series.csv"
            file.write_text(text, encoding="utf-8")
            call = Call(runner, model.path, [file], seed=count_of(body, "seed", default=0), local=False)
            try:
                found = use.apply(call, options)
            except CallError as error:  # where the table lies for a moment is not for the page
                raise CallError(str(error).replace(f"{folder}/", "")) from None
        record: dict[str, Any] = jsonable({"rows": found.rows, "lines": found.lines})
        return record
