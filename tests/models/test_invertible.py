"""Whatever decodes what it encodes is its own inverse: found by its programs, before and after pruning."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, Case, batch, cases, context, make

from niwaki.compression import prune
from niwaki.core.contract import Batch, GenerativeModel, Levels
from niwaki.models.registry import registered


def promises(case: Case) -> bool:
    """Whether latents hold as many numbers as a sample and are found by one call: `decode` then undoes
    `encode`. A solver's steps there and back do so only about (`tests/runtime/test_inversion.py`)."""
    programs = case.model().programs()
    if not {"encode", "decode"} <= set(programs):
        return False
    z, x = programs["encode"].output, programs["decode"].output
    alike = not (z.is_tokens or x.is_tokens) and z.size == x.size
    return alike and programs["encode"].sampler.evaluations() == 1


CASES = [case for case in cases() if promises(case)]
ROWS = 12
LARGE = 1000  # values of a sample


def paced(case: Case) -> object:
    return pytest.param(case, marks=pytest.mark.slow) if case.spec.size > LARGE else case


def begun(model: GenerativeModel, data: Batch, ratio: float) -> GenerativeModel:
    """Away from the identity, with what training sets from data, and pruned."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p) / (p.shape[-1] ** 0.5 if p.ndim > 1 else 1.0))
        model.begin_stage(context(), lambda k: data)
    return (prune(model, ratio=ratio, min_width=4, round_to=4) if ratio else model).eval()


def test_flows_are_among_them() -> None:
    names = {case.name for case in CASES}
    assert {"realnvp", "nice", "neural-spline", "glow", "flowpp", "tarflow"} <= names
    assert not {"vae", "vqvae", "latent-diffusion"} & names


@pytest.mark.parametrize("ratio", [0.0, pytest.param(0.5, marks=pytest.mark.slow)], ids=["whole", "pruned"])
@pytest.mark.parametrize("case", [paced(case) for case in CASES], ids=str)
def test_what_is_encoded_is_decoded(case: Case, ratio: float) -> None:
    """To 1e-5 of the values' range in float32, by the programs; to 1e-10 in float64."""
    data = case.batch(ROWS)
    model = begun(case.model(), data, ratio)
    given = {name: data[name] for name in model.program("encode").inputs}
    z = model.run("encode", ROWS, inputs=given)
    asked = {name: value for name, value in given.items() if name != "x"}
    back = model.run("decode", ROWS, inputs={"z": z, **asked})
    scale = max(1.0, float(data.x.abs().max()))
    torch.testing.assert_close(back, data.x.float(), atol=1e-5 * scale, rtol=0)
    model.double()
    y = data["class"] if "class" in asked else None
    with torch.no_grad():
        z = model.encode(data.x.double(), y)  # type: ignore[operator]
        found = model.inverse(z, y)  # type: ignore[operator]
    torch.testing.assert_close(found, data.x.double(), atol=1e-10 * scale, rtol=0)


@pytest.mark.parametrize("name", ["realnvp", "neural-spline", "glow", "flowpp", "tarflow"])
def test_the_log_determinant_of_the_whole_is_that_of_the_jacobian(name: str) -> None:
    data = batch(DIGITS, 16)
    model = begun(make(name), data, 0.0).double()
    x, y = data.x[:1].double(), data["class"][:1]
    jacobian = torch.autograd.functional.jacobian(lambda row: model.encode(row, y)[0], x).reshape(64, 64)  # type: ignore[operator]
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(model(x, y)[1][0], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", ["realnvp", "neural-spline", "glow", "tarflow"])
def test_bits_per_dimension_count_cells_as_wide_as_the_step_of_the_data(name: str) -> None:
    """17 levels from −1 to 1 stand 1/8 apart (a well-known fault takes 2/17, or 2/16 of another range): noise
    fills the cells, and half a step to either side belongs to the ends."""
    model = make(name)
    assert isinstance(DIGITS.x.values, Levels)
    assert model.step == 2.0 / 16  # type: ignore[union-attr]
    logged: dict[str, float] = {}
    ctx = context()
    ctx.log = lambda **values: logged.update({k: float(v.detach()) for k, v in values.items()})  # type: ignore[method-assign]
    data = batch(DIGITS, 24)
    nats = float(model.loss("nll", data, ctx)["nll"].detach())
    assert logged["bits_per_dim"] == pytest.approx(nats / 0.6931471805599453 + 3.0, abs=1e-5)
    noisy = model.dequantise(data.x.repeat(200, 1, 1, 1), context().rng) - data.x.repeat(200, 1, 1, 1)  # type: ignore[operator]
    assert float(noisy.min()) == pytest.approx(-1 / 16, abs=1e-4)
    assert float(noisy.max()) == pytest.approx(1 / 16, abs=1e-4)


def test_every_model_of_the_kind_is_registered_as_one() -> None:
    for case in CASES:
        assert hasattr(registered(case.name), "class_log_prob")
