"""`/v1/uses`: what people do with a model beyond sampling, every registered use (`niwaki use list`).

The uses need the whole of niwaki, torch included: they are imported when one is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.modalities.provenance import Provenance
from niwaki.serving.media import as_file, as_numbers, described, encoded, media_type
from niwaki.serving.problems import Problem
from niwaki.serving.requests import body_of, seed_of, while_there
from niwaki.serving.served import Served
from niwaki.serving.service import service_of
from niwaki.serving.settings import Limits
from niwaki.serving.uploads import store, stored_settings
from niwaki_runtime.errors import CallError
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["ROUTES"]


async def listed(request: Request) -> Response:
    """Names, what each does, and its settings."""
    uses = _registry()
    from niwaki.uses.settings import settings_of

    record = {
        name: {"summary": use.summary, "settings": settings_of(use.Options)} for name, use in uses.items()
    }
    return JSONResponse({"object": "list", "data": _plain(record)})


async def apply(request: Request) -> Response:
    """`files`: what it works on; `words`: in its place, for uses that take words; `condition`: what the
    samples are; `settings`: of the use; `form`: `json` or `file`, for samples that come of it."""
    service = service_of(request)
    body = await body_of(request, service.limits)
    model, name = service.model_for(request, body), request.path_params["use"]
    if model.generation.filter is not None:
        raise Problem(403, "unfiltered", "no filter looks at what uses make; this server gives samples alone")
    seed = seed_of(body)
    work = model.call(lambda: _outcome(model, name, body, seed, service.limits))
    return JSONResponse(
        {"model": model.name, "use": name, "seed": seed, **await while_there(request, work, service.limits)}
    )


def _registry() -> dict[str, Any]:
    try:
        from niwaki.uses import find_use, names_of_uses
    except ModuleNotFoundError as error:
        raise Problem(
            501, "not_installed", f"the uses need {error.name}, which is not installed here"
        ) from None
    return {name: find_use(name) for name in names_of_uses()}


def _outcome(model: Served, name: str, body: dict[str, Any], seed: int, limits: Limits) -> dict[str, Any]:
    """On the thread of the model's batches."""
    _registry()
    from niwaki.uses import Call, find_use

    use, settings, words = find_use(name), body.get("settings") or {}, _words(body.get("words"))
    if not isinstance(settings, dict):
        raise CallError(f"'settings' must be a table, not {settings!r:.60}")
    with scratch_directory() as folder:
        options = use.options(stored_settings(settings, use.Options.files, folder, limits))
        files = store(body.get("files"), folder, limits)
        given = words or [str(file) for file in files]
        call = Call(
            model.bundle if use.opens else None, model.place.path, [Path(word) for word in given], given,
            body.get("condition"), seed, local=False,
        )  # fmt: skip
        try:
            found = use.apply(call, options)
        except CallError as error:
            raise CallError(
                str(error).replace(f"{folder}/", "").replace(str(model.place.path), model.name)
            ) from None
    made_by = model.generation
    edited = use.edits and bool(given)
    if use.makes:
        found.source = Provenance(
            made_by.name, made_by.sha256, name, seed, edited=edited, certificate=made_by.certificate
        )
    return _record(found, body.get("form", "json"))


def _words(words: Any) -> list[str]:
    given = [words] if isinstance(words, str) else words or []
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise CallError(f"'words' must be a text or a list of texts, not {words!r:.60}")
    return given


def _record(found: Any, form: str) -> dict[str, Any]:
    """What came of a use: its figures, and samples or files, whatever it has."""
    record: dict[str, Any] = {"record": _plain(found.record), "lines": found.lines}
    if found.rows:
        record["rows"] = _plain(found.rows)
    if found.data is not None:
        record["file"] = {"media_type": media_type(found.ending), "data": encoded(found.data)}
    if found.texts is not None:
        record["texts"] = [
            {"name": name, "data": encoded(text)}
            for name, text in zip(found.names, found.texts, strict=False)
        ]
    if found.x is not None and found.spec is not None:
        record["output"] = described(found.spec)
        record["samples"] = [_sample(x, found.spec, form, found.source) for x in np.asarray(found.x)]
    if found.failed:
        record["failed"] = found.failed
    return record


def _sample(x: np.ndarray, spec: Any, form: str, source: Provenance | None) -> Any:
    if form == "json":
        return as_numbers(x)
    kind, data = as_file(x, spec, source)
    return {"media_type": kind, "data": encoded(data)}


def _plain(value: Any) -> Any:
    from niwaki.core.store import jsonable

    return jsonable(value)


ROUTES = [Route("/v1/uses", listed), Route("/v1/uses/{use}", apply, methods=["POST"])]
