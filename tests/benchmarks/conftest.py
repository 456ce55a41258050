"""The benchmark's own package, found beside this folder."""

from __future__ import annotations

import sys
from pathlib import Path

# Only for as long as the package is found: other benchmarks bear the names of test folders.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    import compression_rows  # noqa: F401
finally:
    sys.path.pop(0)
