"""Raw text for a model that brings its tokenizer: cut with that, unless another is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.adapters.language.files import is_language_model
from niwaki.core.contract import CallError, DataSpec, Runner
from niwaki.core.store import write_text
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.tokens import BYTES, byte_tokenizer, end_of_passages, token_count
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.subjects.external import is_external, is_factory
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.tokenizer import FILE

__all__ = ["answering", "cut_with_own", "with_file", "write_tokenizer"]


def answering(
    what: Any, context: EvaluationContext, options: Mapping[str, Any]
) -> tuple[dict[str, Any], DataSpec | None]:
    """What a model of no run is adapted with so that it answers to the data: its options, and their spec. A
    language model cuts raw text itself (`cut_with_own`): it is given the length of the data's windows, and
    they are not read before."""
    if not is_external(what):
        return dict(options), None
    if is_factory(what) or not is_language_model(what):
        return dict(options), context.dataset.spec
    data = context.data
    length = data.spec.shape[0] if isinstance(data, Dataset) else getattr(data, "length", None)
    return {**({} if length is None else {"length": length}), **options}, None


def cut_with_own(context: EvaluationContext, runner: Any) -> None:
    """Have the data of `context`, where they are raw text that nobody said how to cut, cut as `runner` reads
    text: with its tokenizer, and between passages the token that ends its samples, or stood there when the
    tokenizer was learned.

    Raises CallError where the data learn a vocabulary of another size than the tokenizer has.
    """
    data = context.data
    if not isinstance(data, DataConfig) or not isinstance(runner, Runner) or "dataset" in vars(context):
        return
    text = runner.files.get(FILE)
    known = type(data.options()).model_fields
    if text is None or "tokenizer" not in known or getattr(data, "tokenizer", None):
        return
    learned = getattr(data, "vocabulary", None)
    if text == byte_tokenizer() and learned in (None, BYTES):
        return  # what the source does anyhow
    if learned not in (None, BYTES, token_count(text)):
        raise CallError(
            f"data.vocabulary={learned} learns a tokenizer, and the model brings its own, of "
            f"{token_count(text)} tokens; leave data.vocabulary out, and the text is cut with that"
        )
    if learned == token_count(text) and load(data).files.get(FILE) == text:
        return  # what the source learns is the model's own
    stop = getattr(runner.program(SAMPLING).sampler, "stop", -1)
    rest = {k: v for k, v in data.model_dump().items() if k not in ("vocabulary", "tokenizer")}
    end = stop if 0 <= stop < token_count(text) else end_of_passages(text)
    between = {} if "end" in rest or end is None else {"end": end}
    context.data = DataConfig.model_validate({**rest, "tokenizer": text, **between})


def with_file(data: dict[str, Any], place: Path) -> dict[str, Any]:
    """A `data:` section that names the file which `write_tokenizer` writes, in the place of a text."""
    return {**data, "tokenizer": str((place / FILE).absolute())} if _is_text(data.get("tokenizer")) else data


def write_tokenizer(data: Any, place: Path) -> None:
    """Write the tokenizer of data that have its text into a run."""
    text = getattr(data, "tokenizer", None)
    if isinstance(text, str) and _is_text(text):
        write_text(place / FILE, text)


def _is_text(tokenizer: Any) -> bool:
    return isinstance(tokenizer, str) and tokenizer.lstrip().startswith("{")
