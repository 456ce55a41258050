"""The README of a folder on the hub: metadata with a `model-index`, and the bundle's card for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from niwaki.core.errors import CallError
from niwaki.deployment.card import card
from niwaki_runtime.manifest import Manifest

__all__ = ["PICTURE", "model_card"]

PICTURE = "samples.png"

_TASKS = {
    "image": "unconditional-image-generation",
    "text": "text-generation",
    "audio": "text-to-audio",
    "video": "text-to-video",
    "series": "time-series-forecasting",
}
"""The hub's names of tasks (`pipeline_tag`), by modality; others have none."""

_LIMITS = """## Limits of use

What it makes is synthetic: say so wherever it is shown, and do not pass it off as a record of anything
that happened, as a person's likeness, voice or words, or as measured data. It knows no facts, and
reproduces the gaps and the leanings of its training data. Nothing here says that it is fit for decisions
about people, for medicine, law or safety. Whoever publishes it makes sure that the rights in the training
data allow it."""


def model_card(
    manifest: Manifest,
    *,
    results: Sequence[Mapping[str, Any]] = (),
    license: str | None = None,
    picture: bool = False,
    risks: Sequence[str] = (),
) -> str:
    """Markdown with a YAML head.

    results: figures of the evaluation: `name`, `value`, `better`, `judge`
    license: an identifier of the hub (`mit`, `cc-by-4.0`, `other` …)
    picture: whether `samples.png` lies beside it
    risks:   what was measured of memorisation and bias, as list items
    Raises CallError where huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError:
        raise CallError(
            "a card for the hub needs huggingface_hub; install it by pip install 'niwaki[hub]'"
        ) from None
    spec = manifest.spec
    data = str((manifest.provenance.get("recipe") or {}).get("data", {}).get("source") or "unknown")
    rows = [
        EvalResult(
            task_type=_TASKS.get(spec.modality, "other"),
            dataset_type=data,
            dataset_name=data,
            dataset_split="test",
            metric_type=row["name"],
            metric_name=row["name"],
            metric_value=row["value"],
        )
        for row in [*results, *_losses(manifest)]
    ]
    head = ModelCardData(
        model_name=manifest.name,
        library_name="niwaki",
        license=license,
        pipeline_tag=_TASKS.get(spec.modality),
        tags=["niwaki", "generative", spec.modality, manifest.sampler.kind],
        eval_results=rows or None,
    )
    return f"---\n{head.to_yaml()}\n---\n\n" + "\n".join(_body(manifest, license, picture, risks)) + "\n"


def _losses(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """What the verdict tested on each axis."""
    for axis, found in manifest.verdict.items():
        if isinstance(found, Mapping) and isinstance(found.get("delta"), int | float):
            name = f"{axis} lost by compression, {found.get('statistic')}: {found.get('outcome')}"
            yield {"name": name, "value": found["delta"]}


def _body(manifest: Manifest, license: str | None, picture: bool, risks: Sequence[str]) -> Iterator[str]:
    text = card(manifest)
    title, _, rest = text.partition("\n\n")
    rest = rest.replace('niwaki_runtime.load("PATH.niwaki").sample', 'niwaki_runtime.load("FOLDER").sample')
    yield title
    yield ""
    if picture:
        yield f"![samples]({PICTURE})"
        yield ""
    if license:
        rest = rest.partition("\n## Licence\n")[0]
    yield rest.rstrip()
    yield ""
    yield _LIMITS
    if risks:
        yield "\n## Measured: copies and bias\n"
        yield from risks
