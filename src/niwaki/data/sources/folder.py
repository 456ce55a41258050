"""Images of any size and mode in a folder; its subfolders, where there are any, are the classes. Captions and
further columns may lie beside them."""

from __future__ import annotations

from pydantic import Field

from niwaki.core.contract import CallError
from niwaki.core.paths import expanded
from niwaki.data.config import DataConfig, Pool, Progress, register
from niwaki.data.reading.caption_files import captions_beside
from niwaki.data.reading.class_folders import laid_out
from niwaki.data.reading.picture_sets import PICTURES, Picture, PictureOptions, picture_pool
from niwaki.data.reading.walking import walk

__all__ = ["FolderOptions", "folder"]


class FolderOptions(PictureOptions):
    """Settings of `folder`: those of `PictureOptions`, and

    splits: whether train/, val/ and test/ are the splits; default: where all subfolders are called so
    """

    splits: bool | None = Field(default=None, exclude_if=lambda value: value is None)


@register("folder", FolderOptions)
def folder(config: DataConfig, options: FolderOptions, progress: Progress | None) -> Pool:
    """Images `(n, channels, size, size)`.

    The shorter side is resized to `size` with antialiasing and the middle is cut out; broken images are set
    aside and named in the audit.
    Raises CallError for a path that is no folder, a folder without images, one in which none can be read,
    and metadata that are no JSON lines, or name a file twice.
    """
    root = expanded(options.path)
    if not root.is_dir():
        raise CallError(
            f"data.path '{options.path}' " + ("is not a folder" if root.exists() else "does not exist")
        )
    try:
        seen = walk(root, PICTURES)
    except OSError as error:
        raise CallError(f"data.path '{options.path}' cannot be opened: {error.strerror or error}") from None
    images = sorted(seen.files)
    known, odd = captions_beside(root, images, seen.others)
    findings = seen.findings("images") + odd
    if not images:
        why = "; ".join(f.text for f in findings)
        raise CallError(
            f"data.path '{options.path}' holds no images ({', '.join(PICTURES[:6])} …)"
            + (f": {why}" if why else "")
        )
    layout = laid_out(options.path, images, seen.folders, config.labels, options.splits)
    findings += layout.findings
    classes = None if layout.labels is None else (layout.labels, layout.names)
    return picture_pool(
        root.name or "folder",
        [Picture(path, root / path, known[path].caption, known[path].facts) for path in images],
        config,
        options,
        kind="folder",
        classes=classes,
        split=layout.split,
        findings=findings,
        progress=progress,
    )
