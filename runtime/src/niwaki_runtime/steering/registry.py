"""Options of a call that steer its samples, by name, each entered by the file that knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.steering.vocabulary import Vocabulary, vocabulary_of
from niwaki_runtime.tokenizer import FILE

__all__ = ["STEERING", "steer_from", "steering"]


class Maker(Protocol):
    """From an option's value, and what gives the model's vocabulary, to a steer; None where the value is
    meant for the sampler."""

    def __call__(self, value: Any, vocabulary: Callable[[], Vocabulary], /) -> Steer | None: ...


STEERING: dict[str, Maker] = {}


def steering(name: str) -> Callable[[Maker], Maker]:
    """Decorator: enter what makes a steer of the option `name`."""

    def enter(maker: Maker) -> Maker:
        STEERING[name] = maker
        return maker

    return enter


def steer_from(
    options: Mapping[str, Any], steer: Steer | None, files: Mapping[str, str]
) -> tuple[dict[str, Any], Steer | None]:
    """The options that are left for the sampler, and the steer that the others ask for.

    steer: one that the caller brings
    files: texts that the model ships
    Raises CallError for two of them at once, and where the model has no tokenizer.
    """

    def vocabulary() -> Vocabulary:
        if FILE not in files:
            raise CallError("only a model that ships its tokenizer can be steered by texts")
        return vocabulary_of(files[FILE])

    rest, found = dict(options), {} if steer is None else {"steer": steer}
    for name in STEERING.keys() & options.keys():
        made = STEERING[name](options[name], vocabulary)
        if made is not None:
            found[name] = made
            del rest[name]
    if len(found) > 1:
        raise CallError(f"samples are steered in one way at a time, not by {' and '.join(sorted(found))}")
    return rest, next(iter(found.values()), None)
