"""Real series that come with libraries: recordings of matplotlib's sample data, data sets of statsmodels.

Those of statsmodels are read as the files that they are; nothing of it is imported.
"""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.core.store import hash_bytes
from niwaki.data.reading.recordings import Recording

__all__ = ["ON_BOARD", "read_on_board"]


def _membrane() -> Recording:
    """Potential of a nerve cell's membrane in mV, 6 s at 2 kHz: at rest, then it fires while a current
    flows, then rest again."""
    data, content = _sample("membrane.dat", np.float32)
    return Recording("membrane", ("potential",), data[:, None] * 100, np.arange(len(data)) * 0.0005, content)


def _eeg() -> Recording:
    """Four channels of an electroencephalogram, 10 s at 80 Hz."""
    data, content = _sample("eeg.dat", np.float64)
    values = data.reshape(800, 4)
    return Recording("eeg", ("PG3", "PG5", "PG7", "PG9"), values, np.arange(len(values)) / 80.0, content)


def _sample(file: str, dtype: type) -> tuple[np.ndarray, str]:
    from matplotlib import cbook

    raw = Path(str(cbook.get_sample_data(file, asfileobj=False))).read_bytes()
    return np.frombuffer(raw, dtype).astype(np.float64), hash_bytes(raw)


def _co2() -> Recording:
    """Carbon dioxide in the air over Mauna Loa, weekly 1958–2001, 59 weeks missing."""
    rows, content = _statsmodels("co2")
    dates = [datetime.strptime(row[0], "%Y%m%d") for row in rows]
    return _dated("co2", ("co2",), dates, [row[1:] for row in rows], content)


def _elnino() -> Recording:
    """Temperature of the sea off Peru, monthly 1950–2010."""
    rows, content = _statsmodels("elnino")
    dates = [datetime(int(row[0]), month, 1) for row in rows for month in range(1, 13)]
    return _dated("elnino", ("temperature",), dates, [[cell] for row in rows for cell in row[1:]], content)


def _sunspots() -> Recording:
    """Sunspots, yearly 1700–2008; a cycle is about eleven years."""
    rows, content = _statsmodels("sunspots")
    dates = [datetime(int(float(row[0])), 1, 1) for row in rows]
    return _dated("sunspots", ("sunspots",), dates, [row[1:2] for row in rows], content)


def _elec_equip() -> Recording:
    """Orders of electrical equipment in the euro area, monthly 1995–2016."""
    rows, content = _statsmodels("elec_equip")
    dates = [datetime.strptime(row[0], "%b-%d-%Y") for row in rows]
    return _dated("elec_equip", ("orders",), dates, [row[1:] for row in rows], content)


def _macrodata() -> Recording:
    """The economy of the United States, quarterly 1959–2009, twelve channels."""
    rows, content = _statsmodels("macrodata")
    names = ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "m1", "tbilrate", "unemp", "pop",
             "infl", "realint")  # fmt: skip
    dates = [datetime(int(float(row[0])), 3 * int(float(row[1])) - 2, 1) for row in rows]
    return _dated("macrodata", names, dates, [row[2:] for row in rows], content)


def _nile() -> Recording:
    """Flow of the Nile at Aswan, yearly 1871–1970."""
    rows, content = _statsmodels("nile")
    dates = [datetime(int(row[0]), 1, 1) for row in rows]
    return _dated("nile", ("volume",), dates, [row[1:] for row in rows], content)


def _statsmodels(name: str) -> tuple[list[list[str]], str]:
    """Rows below the line of names of a data set's file, and its hash."""
    found = importlib.util.find_spec("statsmodels")
    if found is None or not found.submodule_search_locations:
        raise CallError(
            f"the series '{name}' comes with statsmodels, which is not installed: pip install "
            "'niwaki[series]'"
        )
    raw = Path(found.submodule_search_locations[0], "datasets", name, f"{name}.csv").read_bytes()
    return list(csv.reader(raw.decode("utf-8").splitlines()))[1:], hash_bytes(raw)


def _dated(
    name: str,
    channels: tuple[str, ...],
    dates: Iterable[datetime],
    cells: list[list[str]],
    content: str,
) -> Recording:
    values = np.array([[float(c) if c.strip() else math.nan for c in row] for row in cells])
    times = np.array([(date - datetime(1970, 1, 1)).total_seconds() for date in dates])
    return Recording(name, channels, values, times, content, dated=True)


ON_BOARD: dict[str, Callable[[], Recording]] = {
    "membrane": _membrane,
    "eeg": _eeg,
    "co2": _co2,
    "elnino": _elnino,
    "sunspots": _sunspots,
    "elec_equip": _elec_equip,
    "macrodata": _macrodata,
    "nile": _nile,
}
"""By name; all but the first two are statsmodels'."""


def read_on_board(name: str) -> Recording:
    """Raises CallError with the nearest name where there is none, or a library came without its data."""
    if name not in ON_BOARD:
        raise CallError(f"there is no series '{name}' on board; {nearest(name, ON_BOARD)}")
    try:
        return ON_BOARD[name]()
    except OSError as error:
        text = f"the library that brings the series '{name}' came without its data: {error}"
        raise CallError(text) from None
