"""`python -m niwaki.workflow.worker RUN`: a process that trains a run along with the one that started it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(path: Path) -> int:
    """Train along to the end. Only the exit status and the last line on stderr are looked at."""
    from niwaki.core.errors import NiwakiError
    from niwaki.workflow.reporter import Quiet
    from niwaki.workflow.run_context import RunContext
    from niwaki.workflow.run_directory import RunDirectory
    from niwaki.workflow.stages.train import join_training
    from niwaki.workflow.workers import READY

    try:
        join_training(
            RunContext(RunDirectory.open(path), Quiet()), lambda: print(READY, file=answer, flush=True)
        )
    except NiwakiError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    answer = sys.stdout
    with open(os.devnull, "w") as stray:  # what libraries print is no answer
        sys.stdout = stray
        sys.exit(main(Path(sys.argv[1])))
