"""Data that were in memory when a run was made: its recipe can name them, nothing can read them again."""

from __future__ import annotations

from niwaki.core.contract import CallError
from niwaki.data.config import DataConfig, Options, Pool, Progress, register

__all__ = ["MemoryOptions", "memory"]


class MemoryOptions(Options):
    """Settings of `memory`: the data set's `name` and `fingerprint`."""

    name: str = ""
    fingerprint: str = ""


@register("memory", MemoryOptions)
def memory(config: DataConfig, options: MemoryOptions, progress: Progress | None) -> Pool:
    """Raises CallError: the data have to be given again."""
    raise CallError(
        f"the data '{options.name}' of this run were given in memory; call again with data=… that hold them"
    )
