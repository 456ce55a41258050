"""SOAP turns with its weights and is Adam on vectors; Lookahead is its recurrence around any optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.training import TrainConfig
from niwaki.training.lookahead import Lookahead
from niwaki.training.optimizer_state import optimizer_tensors, restore_optimizer
from niwaki.training.optimizers import build_optimizer, optimizer_class, optimizer_names
from niwaki.training.soap import Soap

INNER = [n for n in optimizer_names() if n != "lookahead" and not optimizer_class(n).averages]


def rotation(n: int, seed: int) -> Tensor:
    drawn = torch.randn((n, n), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(drawn)[0]


def descend(optimizer: Any, weight: nn.Parameter, gradient: Any, steps: int) -> list[Tensor]:
    found = []
    for _ in range(steps):
        weight.grad = gradient(weight.detach())
        optimizer.step()
        found.append(weight.detach().clone())
    return found


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize(
    ("shape", "largest"), [((5, 5), 99), ((4, 4), 99), ((3, 6), 5), ((6, 3), 5), ((2, 7), 6)]
)
def test_soap_turns_with_its_weights(every: int, shape: tuple[int, int], largest: int) -> None:
    """Rotated rows and columns give the rotated path: Adam's own would be another one. A side that is not
    turned is not rotated here; where both are, the first gradient has full rank, and its basis is one."""
    rng = torch.Generator().manual_seed(0)
    goal = torch.randn(shape, generator=rng, dtype=torch.float64)
    scale = torch.rand(shape, generator=rng, dtype=torch.float64) + 0.5
    a, b = (
        rotation(side, i) if side <= largest else torch.eye(side, dtype=torch.float64)
        for i, side in enumerate(shape)
    )

    def gradient(w: Tensor) -> Tensor:
        return scale * (w - goal)

    plain = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    turned = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    first = descend(Soap([plain], lr=0.1, every=every, largest=largest), plain, gradient, 12)
    optimizer = Soap([turned], lr=0.1, every=every, largest=largest)
    second = descend(optimizer, turned, lambda w: a @ gradient(a.T @ w @ b.T) @ b, 12)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(a @ one @ b, other, rtol=1e-4, atol=1e-5)
    adam = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    path = descend(torch.optim.Adam([adam], lr=0.1), adam, lambda w: a @ gradient(a.T @ w @ b.T) @ b, 12)
    assert not torch.allclose(path[-1], second[-1], rtol=1e-2)


@pytest.mark.parametrize(("shape", "largest"), [((7,), 1024), ((4, 6), 3), ((1, 1), 1024)])
def test_soap_is_adamw_where_nothing_is_turned(shape: tuple[int, ...], largest: int) -> None:
    rng = torch.Generator().manual_seed(3)
    slopes = [torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(9)]
    paths = []
    for make in (
        lambda p: Soap([p], lr=0.05, betas=(0.9, 0.99), weight_decay=0.1, largest=largest),
        lambda p: torch.optim.AdamW([p], lr=0.05, betas=(0.9, 0.99), weight_decay=0.1),
    ):
        weight, queue = nn.Parameter(torch.ones(shape, dtype=torch.float64)), iter(slopes)
        paths.append(descend(make(weight), weight, lambda w, queue=queue: next(queue), 9))
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-9, atol=1e-9)


def test_soap_keeps_its_bases_orthogonal_and_takes_kernels() -> None:
    weight = nn.Parameter(torch.randn((6, 3, 3, 3)))
    optimizer = Soap([weight], lr=0.01, every=2)
    before = weight.detach().clone()
    descend(optimizer, weight, lambda w: w + 0.1 * torch.randn_like(w), 10)
    state = optimizer.state[weight]
    for side, size in (("left", 6), ("right", 27)):
        basis = state[f"{side}_basis"]
        torch.testing.assert_close(basis.T @ basis, torch.eye(size), rtol=0, atol=1e-5)
    assert weight.norm() < before.norm()


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize(("k", "alpha"), [(1, 1.0), (3, 0.5), (5, 0.2)])
def test_lookahead_is_its_recurrence(name: str, k: int, alpha: float) -> None:
    """Step by step by hand around the inner optimizer, moments kept."""
    rng = torch.Generator().manual_seed(0)
    start, slopes = (
        torch.randn((4, 3), generator=rng),
        [torch.randn((4, 3), generator=rng) for _ in range(11)],
    )
    inner = optimizer_class(name)(lr=0.05)
    plain, led = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    by_hand = build_optimizer(inner, {"w": plain})
    made = build_optimizer(optimizer_class("lookahead")(lr=0.05, inner=name, k=k, alpha=alpha), {"w": led})
    slow = start.clone()
    for i, slope in enumerate(slopes):
        plain.grad, led.grad = slope.clone(), slope.clone()
        by_hand.step()
        made.step()
        if (i + 1) % k == 0:
            slow = slow + alpha * (plain.detach() - slow)
            plain.data.copy_(slow)
        np.testing.assert_allclose(led.detach(), plain.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["soap", *(f"lookahead of {inner}" for inner in INNER)])
def test_a_state_that_is_restored_goes_on_bit_for_bit(name: str) -> None:
    kind, _, inner = name.partition(" of ")
    config = optimizer_class(kind)(lr=0.05, **({"inner": inner, "k": 3} if inner else {"every": 2}))
    rng = torch.Generator().manual_seed(0)
    start, slopes = (
        torch.randn((4, 3), generator=rng),
        [torch.randn((4, 3), generator=rng) for _ in range(10)],
    )

    def run(weight: nn.Parameter, optimizer: Any, queue: list[Tensor]) -> None:
        for slope in queue:
            weight.grad = slope.clone()
            optimizer.step()

    whole = nn.Parameter(start.clone())
    run(whole, build_optimizer(config, {"w": whole}), slopes)
    half = nn.Parameter(start.clone())
    first = build_optimizer(config, {"w": half})
    run(half, first, slopes[:4])
    tensors = {key: value.clone() for key, value in optimizer_tensors(first, {"w": half}).items()}
    rest = nn.Parameter(half.detach().clone())
    second = build_optimizer(config, {"w": rest})
    restore_optimizer(second, {"w": rest}, tensors)
    run(rest, second, slopes[4:])
    assert torch.equal(rest, whole)


def test_a_rate_that_is_set_reaches_the_inner_optimizer() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    made = build_optimizer(
        optimizer_class("lookahead")(lr=0.1, inner={"name": "sgd", "momentum": 0.0}, k=100), {"w": weight}
    )
    assert isinstance(made, Lookahead)
    for group in made.param_groups:
        group["lr"] = 0.5
    weight.grad = torch.ones(2, 2)
    made.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inner": "adamm"}, "there is no optimizer 'adamm'"),
        ({"inner": "lookahead"}, "cannot be another lookahead"),
        ({"inner": {"name": "sgd", "beta": 1}}, "beta"),
        ({"k": 0}, "k"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_a_lookahead_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((CallError, ValueError), match=said):
        TrainConfig.model_validate({"optimizers": {"default": {"name": "lookahead", **settings}}})
