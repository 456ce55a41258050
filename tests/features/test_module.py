from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from features.toys import toy
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.features.module import module_extractor
from niwaki.features.preprocess import Preprocess
from niwaki.features.pretrained import Pretrained


class Net(nn.Module):
    """A stem of convolutions, a head, and a layer that is never called."""

    def __init__(self, channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Dropout(0.5))
            self.head = nn.Linear(6, 4)
            self.spare = nn.Linear(2, 2)
            self.pair = Pair()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pair(self.stem(x))[0].mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x, "and more"


def test_any_module_and_any_layer_of_it() -> None:
    network, dataset = Net(), toy((1, 8, 8))
    x = dataset.test.values()[:5]
    whole = module_extractor(network, dataset.spec)
    inner = module_extractor(network, dataset.spec, layer="stem")
    flat = module_extractor(network, dataset.spec, layer="stem.0", pool="flatten")
    first = module_extractor(network, dataset.spec, layer="pair")
    network.eval()
    with torch.inference_mode():
        stem, raw, out = network.stem(x), network.stem[0](x), network(x)
    np.testing.assert_allclose(whole(x), out.numpy(), atol=1e-6)
    np.testing.assert_allclose(inner(x), stem.mean((2, 3)).numpy(), atol=1e-6)
    np.testing.assert_allclose(flat(x), raw.flatten(1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(first(x), inner(x))
    assert (whole.dim, inner.dim, flat.dim) == (4, 6, 6 * 36)
    assert isinstance(whole, Pretrained)


def test_your_module_is_neither_changed_nor_followed() -> None:
    network, spec = Net(), DataSpec.of("image", (1, 8, 8))
    x = toy((1, 8, 8)).test.values()[:5]
    extractor = module_extractor(network, spec, layer="stem")
    before = extractor(x)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not network.stem._forward_hooks
    with torch.no_grad():
        network.stem[0].weight.zero_()
    np.testing.assert_array_equal(extractor(x), before)


def test_tokens_are_pooled_as_asked() -> None:
    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(1, 2)

    spec = DataSpec.of("series", (3, 10))
    x = torch.linspace(-1, 1, 60).view(2, 3, 10)
    np.testing.assert_allclose(module_extractor(Tokens(), spec, pool="tokens")(x), x.mean(2), atol=1e-6)
    np.testing.assert_array_equal(module_extractor(Tokens(), spec, pool="first")(x), x[:, :, 0])


def test_a_modules_fingerprint() -> None:
    spec = DataSpec.of("image", (1, 8, 8))
    prepared = Preprocess(size=(16, 16), rgb=False)
    made = [
        module_extractor(Net(), spec),
        module_extractor(Net(seed=1), spec),
        module_extractor(Net(), spec, layer="stem"),
        module_extractor(Net(), spec, layer="stem", pool="flatten"),
        module_extractor(Net(), spec, name="other"),
        module_extractor(Net(), spec, preprocess=prepared),
        module_extractor(Net(), spec, preprocess=Preprocess(size=(16, 16), rgb=False, method="bilinear")),
        module_extractor(Net(), DataSpec.of("image", (1, 8, 8), low=0.0), preprocess=prepared),
        module_extractor(nn.Sequential(nn.Flatten(), nn.ReLU()), spec),
        module_extractor(nn.Sequential(nn.Flatten(), nn.Tanh()), spec),
    ]
    assert len({e.fingerprint for e in made}) == len(made)
    assert module_extractor(Net(), spec).fingerprint == made[0].fingerprint


def test_a_module_sees_what_the_preprocessing_makes() -> None:
    seen: list[Tensor] = []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.mean((2, 3))

    spec = DataSpec.of("image", (1, 8, 8))
    x = toy((1, 8, 8)).test.values()[:2]
    prepared = Preprocess(size=(20, 12), mean=(0.5,), std=(0.25,))
    module_extractor(Looking(), spec, preprocess=prepared, device="cpu")(x)
    torch.testing.assert_close(seen[-1], prepared(x, -1.0, 1.0))
    module_extractor(Looking(), spec, device="cpu")(x)
    torch.testing.assert_close(seen[-1], x)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layer": "stm"}, "did you mean 'stem'"),
        ({"layer": "spare"}, "has the layer 'spare', but does not call it"),
        ({"pool": "max"}, "there is no pool 'max'"),
        ({"pool": "tokens"}, r"is for tokens \(n, t, d\), and the module returns"),
        ({"name": "a/b"}, "an extractor's name has letters"),
        ({"preprocess": Preprocess()}, "cannot take samples of the shape"),  # three channels for one
    ],
)
def test_bad_calls(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        module_extractor(Net(), DataSpec.of("image", (1, 8, 8)), **settings)


def test_modules_that_return_something_else() -> None:
    class Odd(nn.Module):
        def __init__(self, made: Any) -> None:
            super().__init__()
            self.made = made

        def forward(self, x: Tensor) -> Any:
            return self.made

    spec = DataSpec.of("vector", (3,))
    with pytest.raises(CallError, match="returns dict; name a layer"):
        module_extractor(Odd({}), spec)
    with pytest.raises(CallError, match="not one row"):
        module_extractor(Odd(torch.zeros(7)), spec)
    with pytest.raises(CallError, match="cannot take samples of the shape"):
        module_extractor(nn.Linear(4, 2), spec)
