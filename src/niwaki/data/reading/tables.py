"""Tables with named columns: CSV and Parquet files, read as they are; what a column means is asked later."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.core.store import hash_bytes

__all__ = ["ENDINGS", "Table", "read_table"]

_MISSING = ("", "nan", "na", "n/a", "null", "none", "-")
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Table:
    """Rows of cells under titles.

    name:    of the file
    cells:   by title, one list of cells for each column: texts of a CSV file, values of a Parquet one
    content: hash of what it was read from
    first:   number of the first row, as a reader of the file counts
    """

    name: str
    cells: dict[str, Sequence[Any]]
    content: str
    first: int = 2

    @property
    def titles(self) -> tuple[str, ...]:
        return tuple(self.cells)

    def __len__(self) -> int:
        return len(next(iter(self.cells.values()), ()))

    def column(self, title: str, setting: str = "") -> Sequence[Any]:
        """Raises CallError with the nearest name where there is none; setting: that names it."""
        if title not in self.cells:
            told = f" ({setting})" if setting else ""
            raise CallError(f"'{self.name}' has no column '{title}'{told}; {nearest(title, self.titles)}")
        return self.cells[title]

    def numbers(self, title: str) -> np.ndarray:
        """A column as float64 `(rows,)`, NaN where nothing stands. Raises CallError for what is no number."""
        column = self.column(title)
        if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
            return column.astype(np.float64)
        return np.array([self._number(cell, i) for i, cell in enumerate(column)], np.float64)

    def words(self, title: str, setting: str = "") -> np.ndarray:
        """A column as texts `(rows,)`, blanks around them cut off. Raises CallError for an empty cell."""
        found = []
        for row, cell in enumerate(self.column(title, setting)):
            text = "" if cell is None or cell != cell else str(cell).strip()  # NaN alone is not itself
            if not text:
                told = f" ({setting})" if setting else ""
                raise CallError(
                    f"the column '{title}'{told} of '{self.name}' has missing values, first in row "
                    f"{row + self.first}"
                )
            found.append(text)
        return np.array(found, object)

    def seconds(self, title: str) -> tuple[np.ndarray, bool]:
        """A column of times in seconds `(rows,)`, and whether they are dates (then since 1970, UTC).

        Raises CallError for what is neither a number nor a date (ISO 8601), and for a mixture of both.
        """
        read = [self._moment(cell, i) for i, cell in enumerate(self.column(title, "data.time"))]
        dated = {was for _, was in read}
        if len(dated) > 1:
            raise CallError(f"the column '{title}' of '{self.name}' holds both numbers and dates")
        return np.array([value for value, _ in read], np.float64), dated == {True}

    def _number(self, cell: Any, row: int) -> float:
        if cell is None:
            return math.nan
        if isinstance(cell, str):
            if cell.strip().lower() in _MISSING:
                return math.nan
            if "_" in cell:  # which Python reads over
                raise CallError(f"'{self.name}', row {row + self.first}: '{cell}' is no number")
        try:
            return float(cell)
        except (ValueError, TypeError):
            raise CallError(f"'{self.name}', row {row + self.first}: '{cell}' is no number") from None

    def _moment(self, cell: Any, row: int) -> tuple[float, bool]:
        if isinstance(cell, date):
            moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
            return _since_epoch(moment), True
        try:
            return float(cell), False
        except (ValueError, TypeError):
            pass
        try:
            return _since_epoch(datetime.fromisoformat(str(cell).strip())), True
        except ValueError:
            said = f"'{self.name}', row {row + self.first}: '{cell}'"
            raise CallError(f"{said} is neither seconds nor a date (ISO 8601)") from None


def _since_epoch(moment: datetime) -> float:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds()


def read_table(path: Path, name: str) -> Table:
    """A file whose ending is one of `ENDINGS`, or CSV.

    Raises CallError for what is no such file, has no rows, or names two columns alike.
    """
    if path.exists() and not path.is_file():
        raise CallError(f"'{name}' is neither a file nor a folder")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CallError(f"'{name}' cannot be opened: {error.strerror or error}") from None
    return ENDINGS.get(path.suffix.lower().lstrip("."), _csv)(raw, path, name)


def _csv(raw: bytes, path: Path, name: str) -> Table:
    """One line of names, cells below; lines that begin with # are passed over."""
    try:
        text = raw.decode("utf-8-sig")
        dialect = csv.Sniffer().sniff(text[:4096].split("\n", 1)[0] + "\n", delimiters=",;\t")
    except UnicodeDecodeError:
        raise CallError(f"'{name}' is not UTF-8 text; save it as UTF-8") from None
    except csv.Error:  # a single column has no delimiter
        dialect = csv.excel
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        rows = list(csv.reader(lines, dialect))
    except csv.Error as error:
        raise CallError(f"'{name}' is no table of comma-separated values: {error}") from None
    if len(rows) < 2:
        raise CallError(f"'{name}' holds no line of names with numbers below")
    head = [cell.strip() for cell in rows[0]]
    _distinct(head, name)
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(head)), None)
    if wrong is not None:
        raise CallError(f"'{name}': row {wrong + 1} has {len(rows[wrong])} cells, the first one {len(head)}")
    return Table(name, {t: [row[i] for row in rows[1:]] for i, t in enumerate(head)}, hash_bytes(raw))


def _parquet(raw: bytes, path: Path, name: str) -> Table:
    """By pyarrow; columns of numbers stay arrays, empty cells NaN."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise CallError(
            f"'{name}' is a Parquet file, which pyarrow reads: pip install 'niwaki[series]'"
        ) from None
    try:
        opened = parquet.ParquetFile(pyarrow.BufferReader(raw))
        _distinct(opened.schema_arrow.names, name)
        read = opened.read()
    except (pyarrow.ArrowException, OSError) as error:
        text = str(error).splitlines()[0]
        raise CallError(f"'{name}' cannot be read as a Parquet file: {text}") from None
    if not read.num_rows:
        raise CallError(f"'{name}' holds no rows")
    cells: dict[str, Sequence[Any]] = {}
    for title, column in zip(read.column_names, read.columns, strict=True):
        # Whole numbers beyond 2^53 go to the nearest that float64 has, as those of CSV do.
        numeric = pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)
        plain = column.cast(pyarrow.float64(), safe=False) if numeric else column
        # Nanoseconds, which Python's dates do not have, are cut to microseconds.
        if pyarrow.types.is_timestamp(column.type):
            plain = column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
        cells[title] = plain.to_numpy() if numeric else plain.to_pylist()
    return Table(name, cells, hash_bytes(raw), first=1)


def _distinct(titles: Sequence[str], name: str) -> None:
    twice = sorted({title for title in titles if list(titles).count(title) > 1})
    if twice:
        raise CallError(f"'{name}' has several columns called '{twice[0]}'; give each a name of its own")


ENDINGS: dict[str, Callable[[bytes, Path, str], Table]] = {"csv": _csv, "parquet": _parquet, "pq": _parquet}
"""Endings of files that are read as tables, with what reads them."""
