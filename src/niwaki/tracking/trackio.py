"""Trackio: a local database that `trackio show` draws; nothing is sent anywhere."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

from PIL import Image

from niwaki.tracking.base import About, Tracker, tracker

__all__ = ["Trackio"]


@tracker("trackio")
class Trackio(Tracker):
    """One run by its name and identity, in TRACKIO_DIR where that is set, else inside the run directory."""

    needs = "trackio"
    extra = "trackio"

    def __init__(self, about: About) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(about.folder.resolve()))
        import trackio

        self.trackio = trackio
        self.run: Any = trackio.init(
            project=about.project,
            name=f"{about.name}-{about.identity[:6]}",
            config=dict(about.settings),
            resume="allow",
            embed=False,
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.trackio.log(dict(values), step=step)

    def picture(self, name: str, step: int, png: bytes) -> None:
        self.trackio.log({name: self.trackio.Image(Image.open(io.BytesIO(png)))}, step=step)

    def text(self, name: str, step: int, text: str) -> None:
        self.trackio.log({name: text}, step=step)

    def summary(self, values: Mapping[str, float | str]) -> None:
        self.trackio.log(dict(values))

    def close(self) -> None:
        self.trackio.finish()
