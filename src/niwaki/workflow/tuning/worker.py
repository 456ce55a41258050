"""`python -m niwaki.workflow.tuning.worker STUDY TRIALS UNTIL`: works at a study along with others."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(path: Path, trials: int, until: float) -> int:
    """Work to the end of the study, or of the process that began this one. Only the exit status and the last
    line on stderr are looked at."""
    from niwaki.core.errors import NiwakiError
    from niwaki.training import Interrupted
    from niwaki.workflow.reporter import Quiet
    from niwaki.workflow.tuning.study import Study
    from niwaki.workflow.tuning.trial import judging_context
    from niwaki.workflow.tuning.work import work

    parent = os.getppid()
    study = Study.open(path, trials)
    try:
        work(
            study, judging_context(study, Quiet()), until=until or None,
            goes_on=lambda: os.getppid() == parent,
        )  # fmt: skip
    except (Interrupted, KeyboardInterrupt):
        return 0
    except NiwakiError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
