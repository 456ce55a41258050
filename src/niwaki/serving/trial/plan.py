"""What a trial compares, and who is given which."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from niwaki_runtime.errors import CallError, nearest

__all__ = ["Arm", "TrialPlan"]

Arm = Literal["a", "b"]
_WHOLE = 1 << 64


@dataclass(frozen=True)
class TrialPlan:
    """
    a, b:   names of models; A is what was served before
    share:  of users that are given B
    level:  chance that the bounds of the outcome ever miss the difference, and chance that any guardrail ever
            stops B without cause
    margin: difference of outcomes that counts as none, and of guardrails by which B may be worse
    slow:   seconds beyond which an answer counts as slow
    key:    of the draw; whoever knows it can say who is given what
    """

    a: str
    b: str
    share: float = 0.5
    level: float = 0.05
    margin: float = 0.0
    slow: float = 1.0
    key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise CallError(f"a trial compares two models, not '{self.a}' with itself")
        for name in ("share", "level"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise CallError(f"the {name} of a trial lies between 0 and 1, not {getattr(self, name)}")
        if not 0.0 <= self.margin < 1.0 or self.slow <= 0.0:
            raise CallError("a trial's margin lies in 0 … 1, and what counts as slow is a time")

    @classmethod
    def read(cls, text: str, **settings: Any) -> TrialPlan:
        """`A:B` or `A:B:SHARE`.

        >>> TrialPlan.read("old:new:0.2").share
        0.2
        """
        a, _, rest = text.partition(":")
        b, _, share = rest.partition(":")
        try:
            return cls(a, b, float(share) if share else 0.5, **settings)
        except ValueError:
            raise CallError(f"a trial is named as A:B or A:B:SHARE, not '{text}'") from None

    def name_of(self, user: str) -> str:
        """By which a user is known in the log: what they call themselves is not written."""
        return hmac.new(bytes.fromhex(self.key), user.encode(), hashlib.sha256).hexdigest()

    def arm_of(self, name: str) -> Arm:
        """Of a user by `name_of`: the same at every time and on every machine; to 2⁻⁶⁴, `share` of all names
        are given B."""
        return "b" if int(name[:16], 16) < round(self.share * _WHOLE) else "a"

    def check(self, models: Collection[str]) -> None:
        """Raises CallError for a model that is not served."""
        for name in (self.a, self.b):
            if name not in models:
                raise CallError(f"the trial names '{name}', which is not served; {nearest(name, models)}")

    def model(self, arm: Arm) -> str:
        return self.b if arm == "b" else self.a

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "trial", "a": self.a, "b": self.b, "share": self.share, "level": self.level,
            "margin": self.margin, "slow": self.slow, "key": self.key,
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrialPlan:
        try:
            return cls(**{name: record[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError, ValueError) as error:
            raise CallError(f"the first line of a trial's log is not whole ({error})") from None
