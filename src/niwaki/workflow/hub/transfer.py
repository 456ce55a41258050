"""To the hub and back, by huggingface_hub: its token, cache, mirrors and `HF_HUB_OFFLINE` hold here too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError, NiwakiError

__all__ = ["download", "upload"]

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def download(name: str, revision: str | None = None) -> Path:
    """The folder `USER/NAME` of the hub, from the cache where it is there.

    revision: a branch, a tag or a commit
    Raises CallError for what is no name of the hub, NiwakiError where it cannot be had.
    """
    if not _NAME.fullmatch(name):
        raise CallError(f"{name} is neither a folder here nor a name of the hub (USER/NAME)")
    hub = _library()
    try:
        return Path(hub.snapshot_download(name, revision=revision, library_name="niwaki"))
    except Exception as error:
        raise NiwakiError(
            f"{name} is no folder here and could not be had from the hub: {_first_line(error)}"
        ) from error


def upload(
    folder: Path,
    name: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload a folder as `USER/NAME`, which is made where it is missing; the address of the commit.

    Raises CallError for what is no name of the hub, NiwakiError where the hub refuses or is out of reach.
    """
    if not _NAME.fullmatch(name):
        raise CallError(f"'{name}' is no name of the hub; give USER/NAME")
    hub = _library()
    try:
        hub.create_repo(name, private=private, token=token, exist_ok=True)
        done = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            token=token,
            revision=revision,
            commit_message=message or f"Upload {name.rpartition('/')[2]} by niwaki",
        )
    except Exception as error:
        raise NiwakiError(f"{name} could not be uploaded: {_first_line(error)}") from error
    return str(getattr(done, "commit_url", done))


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise CallError("this needs huggingface_hub; install it by pip install 'niwaki[hub]'") from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
