"""What every route is given: the models, the limits, the counts."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from niwaki.serving.metrics import Metrics
from niwaki.serving.models import Models
from niwaki.serving.settings import Limits, ServeSettings

__all__ = ["Service", "service_of"]


@dataclass(frozen=True)
class Service:
    models: Models
    metrics: Metrics
    settings: ServeSettings

    @property
    def limits(self) -> Limits:
        return self.settings.limits


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found
