"""Pictures in shards as the package webdataset writes them, read whole into memory without that package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import Field

from niwaki.core.contract import CallError
from niwaki.core.paths import expanded
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.config import DataConfig, Pool, Progress, register
from niwaki.data.reading.class_folders import laid_out
from niwaki.data.reading.facts import take_caption
from niwaki.data.reading.picture_sets import PICTURES, Picture, PictureOptions, picture_pool
from niwaki.data.reading.shards import SHARDS, read_shard
from niwaki.data.reading.walking import walk

__all__ = ["WebdatasetOptions", "webdataset"]

_CAPTIONS = ("txt", "text", "caption")
_READ = (*PICTURES, *_CAPTIONS, "json", "cls")


class WebdatasetOptions(PictureOptions):
    """Settings of `webdataset`: those of `PictureOptions`, where `path` is a shard or a folder of shards, and

    splits: whether train/, val/ and test/ are the splits; default: where all subfolders are called so
    """

    splits: bool | None = Field(default=None, exclude_if=lambda value: value is None)


@register("webdataset", WebdatasetOptions)
def webdataset(config: DataConfig, options: WebdatasetOptions, progress: Progress | None) -> Pool:
    """Images `(n, channels, size, size)`; `.txt` is the caption, `.cls` the class, and `.json` holds further
    facts (a caption under `text` or `caption`, too).

    Raises CallError for a path without shards, a broken one, a key that comes twice in one, and shards
    without an image.
    """
    root = expanded(options.path)
    if not root.exists():
        raise CallError(f"data.path '{options.path}' does not exist")
    findings: list[Finding] = []
    if root.is_dir():
        seen = walk(root, SHARDS)
        shards, folders, findings = sorted(seen.files), seen.folders, seen.findings("shards")
        base = root
    else:
        shards, folders, base = [root.name], [], root.parent
    if not shards:
        raise CallError(f"data.path '{options.path}' holds no shards (.tar, .tar.gz, .tgz)")
    layout = laid_out(options.path, shards, folders, False, options.splits, "shards")
    pictures: list[Picture] = []
    splits: list[int] = []
    without: list[str] = []
    others: Counter[str] = Counter()
    for i, shard in enumerate(shards):
        for sample in read_shard(base / shard):
            name = f"{shard}:{sample.key}"
            others.update(ending for ending in sample.members if ending not in _READ)
            image = next((content for ending, content in sample.members.items() if ending in PICTURES), None)
            if image is None:
                without.append(name)
                continue
            facts = sample.facts(f"'{shard}'")
            caption = sample.text(*_CAPTIONS)
            said = take_caption(facts)
            pictures.append(Picture(name, image, said if caption is None else caption, facts))
            splits += [] if layout.split is None else [layout.split[i]]
    if not pictures:
        raise CallError(f"the shards of '{options.path}' hold no images ({', '.join(PICTURES[:6])} …)")
    if without:
        text = f"{len(without)} of {len(without) + len(pictures)} samples have no image and were left out"
        findings.append(Finding("error", LEFT_OUT, text, shortened(without)))
    if others:
        listed = ", ".join(f".{ending} ({n})" for ending, n in sorted(others.items()))
        text = f"{others.total()} members of the shards were not read: {listed}"
        findings.append(Finding("note", LEFT_OUT, text))
    return picture_pool(
        Path(options.path).stem or "webdataset", pictures, config, options,
        kind="webdataset", split=None if layout.split is None else splits,
        findings=[*findings, *layout.findings], progress=progress,
    )  # fmt: skip
