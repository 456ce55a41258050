"""A planted failure: a layer whose rounding drops two classes while the Fréchet distance hardly moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from niwaki.adapters import adapt
from niwaki.compression.search.budget import Budget
from niwaki.compression.search.choices import Choices
from niwaki.data import DataConfig, Dataset
from niwaki.evaluation import EvaluateConfig
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.given_model import open_given
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.explaining import explain
from niwaki.workflow.searching.search import begin, within_time
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import carry_out, try_candidate
from niwaki.workflow.searching.weights import Weights

INSTEAD = {3: 8, 5: 9}
"""Classes that are dropped, and whose samples take their place."""
PARTS, GATE = 16, 8.0
"""Principal components of a class; above every |z|: a class that is not asked for stays silent."""
UNUSED = 40.0


class Planted(nn.Module):
    """A Gaussian for each class: x = μ_c + U_c z, as ReLU(±z + g·code_c − g) of the class that is asked for.

    What makes 3 another class than 8, and 5 another than 9, passes through two rows of `route` that also hold
    a weight of 40 for an input that is always 0: rounded to 4 bits by rows, 1/40 is nothing.
    """

    def __init__(self, means: Tensor, parts: Tensor) -> None:
        """means: (10, 64); parts: (10, PARTS, 64), scaled by their deviations"""
        super().__init__()
        self.code = nn.Embedding(10, 11)
        self.route = nn.Linear(11, 12, bias=False)
        self.gate = nn.Linear(12 + PARTS, 10 * (2 * PARTS + 1))
        self.draw = nn.Linear(10 * (2 * PARTS + 1), 64, bias=False)
        for parameter in self.parameters():
            parameter.data.zero_()
        self.code.weight.data[:, :10] = torch.eye(10)
        self.route.weight.data[:10, :10] = torch.eye(10)
        gate = self.gate.weight.data.view(10, 2 * PARTS + 1, 12 + PARTS)
        bias = self.gate.bias.data.view(10, 2 * PARTS + 1)
        draw = self.draw.weight.data.view(64, 10, 2 * PARTS + 1)
        reads = torch.eye(10, 12)
        for row, (lost, other) in enumerate(INSTEAD.items(), start=10):
            self.route.weight.data[lost, lost] = 0.0
            self.route.weight.data[other, lost] = 1.0
            self.route.weight.data[row, lost], self.route.weight.data[row, 10] = 1.0, UNUSED
            reads[other, row], reads[lost, row] = -1.0, 1.0
        for k in range(PARTS):
            for column, sign in ((2 * k, 1.0), (2 * k + 1, -1.0)):
                gate[:, column, 12 + k] = sign
                gate[:, column, :12] = GATE * reads
                bias[:, column] = -GATE
                draw[:, :, column] = sign * parts[:, k].T
        gate[:, -1, :12] = reads
        draw[:, :, -1] = means.T

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        code = self.route(self.code(y))
        x = self.draw(torch.relu(self.gate(torch.cat([code, z], dim=1))))
        return x.clamp(-1.0, 1.0).reshape(-1, 1, 8, 8)


def planted(digits: Dataset) -> Planted:
    x, y = digits.train.values().flatten(1), digits.train.y
    assert y is not None
    means, parts = [], []
    for c in range(10):
        of = x[y == c]
        _, size, directions = torch.linalg.svd(of - of.mean(0), full_matrices=False)
        means.append(of.mean(0))
        parts.append(size[:PARTS, None] * directions[:PARTS] / len(of) ** 0.5)
    return Planted(torch.stack(means), torch.stack(parts))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    context = EvaluationContext(DataConfig(source="digits"), EvaluateConfig(features=("random",), n=800))
    digits = context.dataset
    model = adapt(planted(digits), latent=PARTS, classes=10, spec=digits.spec)
    run = open_given(
        model, context, tmp_path_factory.mktemp("planted") / "run",
        export={"memory": False, "repeats": 3}, reporter=Quiet(),
    )  # fmt: skip
    clock = Clock(600.0)
    run, afforded = within_time(run, clock)
    return begin(run, Budget.parse("size=/4"), clock, None, afforded)


def choices(route: int) -> Choices:
    bits = {"generator.route": route, "generator.gate": 8, "generator.draw": 8}
    return Choices(bits=bits, origin=f"route at {route} bits")


@pytest.mark.slow
def test_classes_that_rounding_drops_are_caught_and_attributed_where_the_frechet_distance_hardly_moves(
    search: Search,
) -> None:
    real = search.run.dataset.train.values().flatten(1).numpy()
    fine, bad = Candidate(choices(8)), Candidate(choices(4))
    distances = []
    for candidate in (fine, bad):
        try_candidate(search, candidate)
        made = carry_out(search, candidate, exports=False).model
        x = np.asarray(made.sample(2000, seed=3)).reshape(2000, -1)
        distances.append(frechet_distance(real, x).value)
    assert abs(distances[1] - distances[0]) < 0.03 * real.var(0).sum()
    assert all(loss.outcome != "loss" for loss in fine.losses.values())
    assert fine.losses["diversity"].value < 3.0
    assert not bad.lossless
    assert bad.losses["diversity"].outcome == "loss"
    found = explain(search, bad, Weights(), seconds=60.0)
    first = found.undone[0]
    assert (first.what, first.name) == ("rounded", "generator.route")
    assert first.fewer > 3.0
    assert all(one.fewer < 0.5 * first.fewer for one in found.undone[1:])
    names = search.run.dataset.spec.class_names
    assert {name for name, *_ in found.classes[:2]} == {names[c] for c in INSTEAD}
    assert "'generator.route'" in found.text
    for c in INSTEAD:
        assert f"'{names[c]}'" in found.text
