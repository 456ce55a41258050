"""What a server is told, and what a request may ask of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from pathlib import Path

from niwaki.filters import Filter
from niwaki.filters.screening import check_action
from niwaki.modalities.signing import Certificate
from niwaki_runtime.errors import CallError
from niwaki_runtime.watermark import Watermark

__all__ = ["BundlePlace", "Limits", "ServeSettings", "is_loopback"]


@dataclass(frozen=True)
class Limits:
    """
    samples:     of one request
    evaluations: of the networks for one sample (a step of a diffusion, a token)
    beams:       of one text
    pattern:     characters of a regular expression or a schema
    prompt:      characters of a prompt, or of all messages together
    body:        bytes of a request
    pixels:      of a picture in a request, before it is unpacked
    queue:       samples that wait for one model; beyond them requests are answered with 429
    seconds:     a request may take
    """

    samples: int = 64
    evaluations: int = 4096
    beams: int = 4
    pattern: int = 2000
    prompt: int = 1 << 16
    body: int = 8 << 20
    pixels: int = 16 << 20
    queue: int = 256
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) <= 0:
                raise CallError(f"the limit '{one.name}' must be positive, not {getattr(self, one.name)}")


@dataclass(frozen=True)
class BundlePlace:
    """A bundle to serve: by which name, from where, on which engine."""

    name: str
    path: Path
    engine: str = "auto"

    @classmethod
    def read(cls, text: str, engine: str = "auto") -> BundlePlace:
        """`PATH`, `NAME=PATH` or `NAME=PATH,engine=onnxruntime`; the file's name is its own without one.

        >>> BundlePlace.read("small=runs/a.niwaki,engine=onnxruntime").engine
        'onnxruntime'
        """
        rest, comma, chosen = text.rpartition(",engine=")
        rest, engine = (rest, chosen) if comma else (text, engine)
        name, equals, path = rest.partition("=")
        place = Path(path if equals else rest)
        name = name if equals else place.stem
        if not name or not place.name:
            raise CallError(f"a bundle is named as PATH or NAME=PATH, not '{text}'")
        return cls(name, place, engine)


@dataclass(frozen=True)
class ServeSettings:
    """
    host, port: where it listens; port 0 takes a free one
    keys:       whoever calls must have one of them; none asks for none
    unlocked:   without keys, listen to other machines all the same
    batch:      samples made at once at most
    wait:       seconds that a batch waits for companions where the one before had more
    warm:       seconds that the first batches of a program may take, which show what batch sizes agree
    watch:      seconds between looks at the bundles' files; 0 never looks
    threads:    CPU threads of each engine
    precision:  as of `niwaki_runtime.load`
    filter:     a filter's path (`niwaki.filters.FilterPlace`) for every sample of every bundle
    action:     `withhold` answers what it flags with an error, `mark` with the sample and its score
    grace:      seconds in which running requests may end after a signal
    certificate: by which files are signed, where they have a place for that
    watermark:  the mark that the samples of all bundles carry, of those programs that can
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(), repr=False)
    unlocked: bool = False
    batch: int = 16
    wait: float = 0.002
    warm: float = 30.0
    watch: float = 2.0
    threads: int | None = None
    precision: str = "fast"
    filter: str | Filter | None = None
    action: str = "withhold"
    grace: float = 30.0
    limits: Limits = field(default_factory=Limits)
    watermark: Watermark | None = field(default=None, repr=False)
    certificate: Certificate | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise CallError(f"a port is 0 … 65535, not {self.port}")
        if self.batch < 1 or min(self.wait, self.warm, self.watch, self.grace) < 0:
            raise CallError("batch must be at least 1, and wait, warm, watch and grace not negative")
        check_action(self.action)
        if not self.keys and not self.unlocked and not is_loopback(self.host):
            raise CallError(
                f"{self.host} is open to other machines, and no keys are set: give --keys FILE, or "
                "--unlocked where something else keeps strangers out"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
