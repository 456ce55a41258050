"""What every route is given: the models, the limits, the counts, and which model a caller is served by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from niwaki.serving.metrics import Metrics
from niwaki.serving.models import Models
from niwaki.serving.served import Served
from niwaki.serving.settings import Limits, ServeSettings
from niwaki.serving.trial.recording import give
from niwaki.serving.trial.trial import Trial
from niwaki_runtime.errors import CallError

__all__ = ["Service", "service_of"]

USER = "x-user"
_LONGEST = 256
"""Characters of a user's name."""


@dataclass(frozen=True)
class Service:
    models: Models
    metrics: Metrics
    settings: ServeSettings
    trial: Trial | None = None

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    def model_for(self, request: Request, body: Mapping[str, Any]) -> Served:
        """The model that a request names; where it names none and there is a trial, the one that its user is
        given. Who says nothing of a user is given A and is not of the trial. Raises Problem 404 for a model
        that there is not."""
        named = body.get("model")
        if self.trial is None or named not in (None, ""):
            return self.models.find(named)
        user = self.user_of(request, body)
        if user is None:
            return self.models.find(self.trial.plan.a)
        name, arm = self.trial.assign(user)
        give(request.scope, name)
        return self.models.find(self.trial.plan.model(arm))

    def user_of(self, request: Request, body: Mapping[str, Any]) -> str | None:
        """`X-User`, or `user` as OpenAI's clients send it. Raises CallError for one that is no short text."""
        user = request.headers.get(USER) or body.get("user")
        if user in (None, ""):
            return None
        if not isinstance(user, str) or len(user) > _LONGEST:
            raise CallError(f"a user is a text of at most {_LONGEST} characters")
        return user


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found
