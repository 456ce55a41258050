"""zuko, normflows and FrEIA: flows of the digits given their class, scored exactly.

niwaki's RealNVP is trained by its recipe's settings. The peers have as many parameters, begin with logits
as in the papers, and are trained by the loop of `flows.py`: AdamW at 1e-3, a cosine, averaged weights, the
best of ten validations; their own examples train at a constant rate without averages, which is worse.
zuko's flows are those of `flows.py`, which compares more of them.

normflows: neural spline couplings with learned permutations, as in its example of conditional flows. FrEIA:
`AllInOneBlock`s with soft permutations and the class as condition, as in its quick start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import flows
import torch
from peers.ours import Ours, parameters_of
from peers.turns import Contender, Turn
from torch import Tensor, nn

from niwaki import models
from niwaki.data import DataConfig, Dataset, load
from niwaki.recipe import load_recipe

__all__ = ["NEEDS", "pairs"]

NEEDS = {"zuko": "1.6.0", "normflows": "1.7.3", "FrEIA": "0.2"}
RECIPE = "recipes/digits-realnvp.yaml"


class Normflows(flows.Scored):
    """Couplings by rational-quadratic splines, a learned permutation before each."""

    def __init__(self, width: int, blocks: int = 4) -> None:
        super().__init__()
        import normflows as nf

        layers: list[Any] = []
        for i in range(blocks):
            layers += [
                nf.flows.CoupledRationalQuadraticSpline(
                    flows.SIZE,
                    2,
                    width,
                    num_context_channels=flows.CLASSES,
                    tail_bound=5.0,
                    reverse_mask=bool(i % 2),
                ),
                nf.flows.LULinearPermute(flows.SIZE),
            ]
        base = nf.distributions.DiagGaussian(flows.SIZE, trainable=False)
        self.entry, self.flow = flows.Logit(), nf.ConditionalNormalizingFlow(base, layers)

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        h, logdet = self.entry(x.flatten(1))
        given = nn.functional.one_hot(y, flows.CLASSES).float()
        z, inner = self.flow.inverse_and_log_det(h, context=given)
        return _standard(z) + inner + logdet


class Freia(flows.Scored):
    """Affine couplings with activation normalization and soft permutations."""

    def __init__(self, width: int, blocks: int = 8) -> None:
        super().__init__()
        import FrEIA.framework as ff
        import FrEIA.modules as fm

        def network(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, outputs),
            )

        self.entry, self.flow = flows.Logit(), ff.SequenceINN(flows.SIZE)
        for _ in range(blocks):
            self.flow.append(
                fm.AllInOneBlock,
                cond=0,
                cond_shape=(flows.CLASSES,),
                subnet_constructor=network,
                permute_soft=True,
            )

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        h, logdet = self.entry(x.flatten(1))
        z, inner = self.flow(h, c=[nn.functional.one_hot(y, flows.CLASSES).float()])
        return _standard(z) + inner + logdet


def _standard(z: Tensor) -> Tensor:
    """log N(z; 0, I) `(n,)`."""
    normal = torch.distributions.Normal(0.0, 1.0)
    return normal.log_prob(z).sum(1)


class Peer:
    """A flow in the loop of `flows.py`."""

    def __init__(self, model: flows.Scored, data: Dataset, seed: int) -> None:
        self.model, self.data, self.seed = model, data, seed
        self.parameters = parameters_of(model)
        self._found: dict[str, float] = {}

    def train(self, turn: Turn) -> None:
        self._found = flows.train(
            self.model, self.data, turn.seconds, self.seed,
            clock=time.thread_time, tick=turn.tick, untimed=turn.untimed,
        )  # fmt: skip

    def score(self) -> dict[str, float]:
        return {"bits": self._found["test"]}


class _Scored(flows.Scored):
    """niwaki's flow as the benchmark scores it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.model.class_log_prob(x, y)
        return found


def ours(data: Dataset, seed: int) -> Contender:
    recipe = load_recipe(RECIPE)
    assert recipe.train is not None
    torch.manual_seed(seed)
    model = models.build(recipe.model["name"], recipe.model_settings, data.spec)
    y = flows.labels(data.train)
    prior = torch.log((torch.bincount(y, minlength=flows.CLASSES) + 1.0) / (len(y) + flows.CLASSES))

    def bits(model: Any, split: Any) -> float:
        return flows.bits(_Scored(model), split, prior)

    return Ours(
        model,
        data.train,
        recipe.train,
        lambda m: {"bits": bits(m, data.test)},
        judge=lambda m: bits(m, data.validation),
        seed=seed,
    )


def _of_size(make: Callable[[int], flows.Scored], parameters: int) -> flows.Scored:
    """As wide as makes it as large as ours."""
    width = min(range(16, 400, 4), key=lambda w: abs(parameters_of(make(w)) - parameters))
    return make(width)


def pairs() -> Iterator[tuple[str, str, Callable[[int], dict[str, Contender]]]]:
    data = load(DataConfig(source="digits"))
    recipe = load_recipe(RECIPE)
    size = parameters_of(models.build(recipe.model["name"], recipe.model_settings, data.spec))
    peers: dict[str, tuple[str, Callable[[], flows.Scored]]] = {
        "zuko RealNVP": ("zuko", lambda: flows.Zuko(flows.real_nvp, data, size, ours=False)),
        "zuko MAF": ("zuko", lambda: flows.Zuko(flows.maf, data, size, ours=False)),
        "normflows NSF": ("normflows", lambda: _of_size(Normflows, size)),
        "FrEIA AllInOneBlock": ("FrEIA", lambda: _of_size(Freia, size)),
    }
    for name, (package, build) in peers.items():

        def make(
            seed: int, name: str = name, build: Callable[[], flows.Scored] = build
        ) -> dict[str, Contender]:
            torch.manual_seed(seed)
            return {"niwaki": ours(data, seed), name: Peer(build(), data, seed)}

        yield f"flow, beside {name}", package, make
