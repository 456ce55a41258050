"""The server of bundles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from niwaki.serving.app import application
from niwaki.serving.listening import Listener
from niwaki.serving.metrics import Metrics
from niwaki.serving.models import Models
from niwaki.serving.service import Service
from niwaki.serving.settings import BundlePlace, ServeSettings
from niwaki.serving.trial.trial import Trial

__all__ = ["Server"]


class Server:
    """Bundles on one port of this machine.

    address: where it listens, once it is made: the port is taken by then
    """

    def __init__(
        self, places: Sequence[BundlePlace], settings: ServeSettings, trial: Callable[[], Trial] | None = None
    ) -> None:
        """Loads the bundles; `trial` opens the A/B trial of two of them. Raises NiwakiError for one that
        cannot be served, and for a taken port."""
        metrics = Metrics()
        self._listener = Listener(settings.host, settings.port)
        try:
            models = Models(places, settings, metrics)
            self.service = Service(models, metrics, settings, trial() if trial else None)
        except BaseException:
            self._listener.close()
            raise
        self.address = self._listener.address
        self._listener.answer_with(application(self.service), settings.grace)

    def run(self, told: Callable[[str], None] = lambda address: None) -> None:
        """Serve until SIGTERM or SIGINT, or `stop`: what is being answered then is answered to its end."""
        self._listener.run(told)

    def stop(self) -> None:
        """End, from any thread."""
        self._listener.stop()
