"""The steps that share weights and pack bundles."""

from __future__ import annotations

from niwaki.compression.steps import Outcome, StepContext, step
from niwaki.compression.storage.config import PackConfig, ShareConfig
from niwaki.compression.storage.pack import packed_bundle
from niwaki.compression.storage.share import shared
from niwaki.core.contract import GenerativeModel


@step("share")
def _share(model: GenerativeModel, config: ShareConfig, context: StepContext) -> Outcome:
    done = shared(model, config)
    worst = max(done.errors, key=lambda name: done.errors[name])
    note = (
        f"{len(done.errors)} layers share {config.clusters} weights per {config.per}; the most is lost in "
        f"{worst}: {done.errors[worst]:.2%} of its squares"
    )
    return Outcome(done.model, skipped=done.skipped, notes=(note,))


@step("pack")
def _pack(model: GenerativeModel, config: PackConfig, context: StepContext) -> Outcome:
    bundle, (before, after) = packed_bundle(model, context.previous, context.directory)
    return Outcome(model, bundle=bundle, notes=(f"{before} bytes before, {after} after",))
