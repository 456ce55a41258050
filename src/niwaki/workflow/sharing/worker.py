"""`python -m niwaki.workflow.sharing.worker JSON`: makes samples along with the one that began."""

from __future__ import annotations

import json
import os
import sys


def main(words: str) -> int:
    """Serve to the end. Only the exit status and the last line on stderr are looked at."""
    from niwaki.core.errors import NiwakiError
    from niwaki.workflow.sharing.shared import serve_along
    from niwaki.workflow.workers import READY

    asked = json.loads(words)
    try:
        serve_along(
            asked["what"], asked["devices"], asked["opening"],
            ready=lambda: print(READY, file=answer, flush=True),
        )  # fmt: skip
    except NiwakiError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    answer = sys.stdout
    with open(os.devnull, "w") as stray:  # what libraries print is no answer
        sys.stdout = stray
        sys.exit(main(sys.argv[1]))
