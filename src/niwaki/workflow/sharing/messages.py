"""Arrays and JSON between processes of a gloo group, without a pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as group

from niwaki.core.store import jsonable

__all__ = ["Channel"]

_ABOUT = "about"


class Channel:
    """What processes say to each other.

    members: their gloo group
    """

    def __init__(self, members: Any) -> None:
        self.members = members

    def send(self, to: int, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """`about` is plain JSON. Waits until it has been taken."""
        file = io.BytesIO()
        text = json.dumps(jsonable(about)).encode()
        named: dict[str, Any] = {f"array/{name}": array for name, array in (arrays or {}).items()}
        np.savez(file, allow_pickle=False, **{_ABOUT: np.frombuffer(text, np.uint8)}, **named)
        data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
        group.send(torch.tensor([len(data)]), to, group=self.members)
        group.send(data, to, group=self.members)

    def receive(self, origin: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `send` has sent from there."""
        length = torch.zeros(1, dtype=torch.int64)
        group.recv(length, origin, group=self.members)
        data = torch.empty(int(length), dtype=torch.uint8)
        group.recv(data, origin, group=self.members)
        with np.load(io.BytesIO(data.numpy().tobytes()), allow_pickle=False) as found:
            arrays = {name.removeprefix("array/"): found[name] for name in found.files if name != _ABOUT}
            return json.loads(found[_ABOUT].tobytes()), arrays
