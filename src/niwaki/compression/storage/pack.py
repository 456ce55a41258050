"""The bundle of the step before, with its weights entropy-coded."""

from __future__ import annotations

from pathlib import Path

from niwaki.core.contract import GenerativeModel
from niwaki.deployment import bundle_bytes, export_graphs, package
from niwaki.deployment.repack import pack_bundle

__all__ = ["packed_bundle"]


def packed_bundle(
    model: GenerativeModel, before: Path | None, directory: Path
) -> tuple[Path, tuple[int, int]]:
    """(the packed bundle, `model.niwaki` in `directory`; bytes before and after).

    before: the bundle to pack; None exports and packages `model` as it is
    Raises NiwakiError where the bundle does not get smaller.
    """
    if before is None:
        graphs = export_graphs(model, directory / "graphs")
        before = package(model, graphs, directory / "graphs" / "model.niwaki")
    made = pack_bundle(before, directory / "model.niwaki")
    return made, (bundle_bytes(before), bundle_bytes(made))
