"""Codes of amounts: cells that fill the range, and values inside their cells."""

from __future__ import annotations

import pytest
import torch

from niwaki.core.contract import CallError, Levels, Real, Tokens, ValueSpec
from niwaki.nn.layers.companding import MuLaw, StoredLevels, codes_of

RANGES = [(-1.0, 1.0), (0.0, 1.0), (-0.25, 3.0)]
each = pytest.mark.parametrize("levels", [2, 16, 255, 256, 1024])


@pytest.mark.parametrize("ends", RANGES)
@each
def test_every_value_has_its_own_code(levels: int, ends: tuple[float, float]) -> None:
    law = MuLaw(levels, *ends)
    assert torch.equal(law.encode(law.values), torch.arange(levels))
    assert ((law.values > ends[0]) & (law.values < ends[1])).all()
    assert (law.values.diff() > 0).all()


@pytest.mark.parametrize("ends", RANGES)
@each
def test_the_cells_fill_the_range(levels: int, ends: tuple[float, float]) -> None:
    widths = MuLaw(levels, *ends).log_width.double().exp()
    assert float(widths.sum()) == pytest.approx(ends[1] - ends[0], rel=1e-6)


@each
def test_cells_are_where_codes_change(levels: int) -> None:
    """Counted on a fine grid of the range."""
    law = MuLaw(levels, -1.0, 1.0)
    fine = 1 << 20
    grid = (torch.arange(fine, dtype=torch.float64) + 0.5) * (2.0 / fine) - 1
    widths = torch.bincount(law.encode(grid), minlength=levels) * (2.0 / fine)
    torch.testing.assert_close(widths, law.log_width.exp(), atol=4.0 / fine, rtol=1e-3, check_dtype=False)


def test_the_law_is_that_of_its_formula_and_ends_stay_inside() -> None:
    law, x = MuLaw(256, -1.0, 1.0), torch.tensor([-1.0, -0.5, -0.01, 0.01, 0.5, 1.0, 7.0])
    f = x.clamp(-1, 1).double()
    f = f.sign() * torch.log(1 + 255 * f.abs()) / torch.log(torch.tensor(256.0).double())
    assert torch.equal(law.encode(x), ((f + 1) * 128).floor().clamp(max=255).long())


def test_stored_levels_are_said_as_they_are() -> None:
    values = Levels(17, -1.0, 1.0)
    found = codes_of(ValueSpec("audio", (8,), "T", values), 256, "x")
    assert isinstance(found, StoredLevels)
    assert found.exact
    assert torch.equal(found.encode(values.seen(torch.arange(17.0))), torch.arange(17))
    assert not found.log_width.any()
    assert isinstance(codes_of(ValueSpec("audio", (8,), "T", values), 16, "x"), MuLaw)


@pytest.mark.parametrize("values", [Tokens(5), Real(-float("inf"), float("inf"))])
def test_tokens_and_amounts_without_bounds_are_refused(values: Tokens | Real) -> None:
    with pytest.raises(CallError, match="between two bounds"):
        codes_of(ValueSpec("series", (8,), "T", values), 256, "x")
