"""The packages of benchmarks, found beside this folder."""

from __future__ import annotations

import sys
from pathlib import Path

# Only for as long as they are found: other benchmarks bear the names of test folders.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    import compression_rows  # noqa: F401
    import faults  # noqa: F401
    import forecast_peers  # noqa: F401
    import forecasting.tasks  # noqa: F401
    import forecasts  # noqa: F401
    import fuzz  # noqa: F401
    import peers.turns  # noqa: F401
    import sanity_checks  # noqa: F401
    import scaling  # noqa: F401
finally:
    sys.path.pop(0)
