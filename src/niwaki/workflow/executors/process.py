"""`python -m niwaki.workflow.executors.process`: carries out the calls that come by its standard input.

Where that is closed, who asked is gone: what is under way is asked to save itself and end (SIGTERM).
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, TextIO

_WAIT = 20
"""Seconds that a training may take to save itself."""


def main(requests: TextIO, answers: TextIO) -> int:
    """Only the answers and the last line on stderr are looked at."""
    import torch

    from niwaki.core.errors import first_line
    from niwaki.training import Interrupted

    torch.set_num_threads(1)
    asked: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, asked), daemon=True).start()
    while (request := asked.get()) is not None:
        module, _, name = request["call"].partition(":")
        try:
            answer = {"answer": getattr(importlib.import_module(module), name)(request["words"])}
        except (Interrupted, KeyboardInterrupt):
            return 0
        except Exception as error:
            answer = {"lost": first_line(error) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _listen(requests: TextIO, asked: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in requests:
        asked.put(json.loads(line))
    asked.put(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_WAIT)
    os._exit(1)


if __name__ == "__main__":
    _answers = sys.stdout
    with open(os.devnull, "w") as _stray:  # what libraries print is no answer
        sys.stdout = _stray
        sys.exit(main(sys.stdin, _answers))
