"""What went wrong with a request, in the form that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from niwaki_runtime.errors import CallError, NiwakiError

__all__ = ["WITHHELD", "Problem", "as_problem", "handlers"]


WITHHELD = "withheld"
"""The code of a sample that a filter does not let out; and of a request's scope the share of its samples that
were, for whoever counts them."""


class Problem(NiwakiError):
    """A request that is answered with an error.

    status: of HTTP
    code:   a word that programs go by
    after:  seconds after which asking again makes sense
    details: what a filter said of the sample
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        after: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.after, self.details = status, code, after, dict(details or {})

    def to_json(self) -> dict[str, Any]:
        return {"message": str(self), "type": _kind(self.status), "param": None, "code": self.code} | (
            {"filter": self.details} if self.details else {}
        )

    def response(self) -> JSONResponse:
        headers = {} if self.after is None else {"Retry-After": str(self.after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": self.to_json()}, self.status, headers)


def as_problem(error: BaseException) -> Problem:
    """Any error as one that may be shown: what is not for users says nothing of what is inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, CallError):
        return Problem(400, "invalid_value", str(error))
    if isinstance(error, NiwakiError):
        return Problem(500, "failed", str(error))
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return Problem(
            error.status_code, code, f"{error.detail.lower()}; the routes are listed in docs/serve.md"
        )
    if isinstance(error, MemoryError):
        return Problem(503, "no_memory", "there is not enough memory for this request", after=5)
    return Problem(500, "defect", "the server failed at this request; its log says why")


def _kind(status: int) -> str:
    if status in (401, 403):
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


async def _answer(request: Request, error: Exception) -> JSONResponse:
    return as_problem(error).response()


handlers: dict[Any, Any] = dict.fromkeys((Problem, NiwakiError, HTTPException, Exception), _answer)
"""For starlette, which takes the nearest class."""
