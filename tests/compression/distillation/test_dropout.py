"""What is taught is taught without dropout: a student that says what its teacher says stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from niwaki.compression import FinetuneConfig
from niwaki.compression.distillation.dropout import without_dropout
from niwaki.compression.distillation.finetune import finetune
from niwaki.core.contract import DataSpec, GenerativeModel, Tokens, ValueSpec
from niwaki.data import Split
from niwaki.models import build

SPEC = DataSpec({"x": ValueSpec("text", (12,), "T", Tokens(9))})
TUNE = FinetuneConfig(
    steps=4,
    batch=16,
    lr=1e-2,
    warmup=0,
    task_loss_weight=0.0,
    precision="fp32",
    device="cpu",
    train={"optimizer": "sgd"},
)


def tokens(n: int = 64) -> Split:
    drawn = torch.randint(0, 9, (n, 12), generator=torch.Generator().manual_seed(1))
    return Split.of(SPEC, drawn.to(torch.uint8))


def model(dropout: float) -> GenerativeModel:
    torch.manual_seed(0)
    made: GenerativeModel = build(
        "transformer", {"width": 16, "depth": 1, "heads": 2, "dropout": dropout}, SPEC
    )
    with torch.no_grad():
        for parameter in made.parameters():  # where a layer begins at zero, it would leave nothing to drop
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return made.eval()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_student_equal_to_its_teacher_stays_as_it_is(dropout: float) -> None:
    teacher = model(dropout)
    taught = finetune(teacher, teacher, tokens(), TUNE, seed=0)
    for before, after in zip(teacher.parameters(), taught.parameters(), strict=True):
        torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def test_a_taught_student_has_the_dropout_it_had() -> None:
    taught = finetune(model(0.5), model(0.5), tokens(), TUNE, seed=0)
    held = [m.p for m in taught.modules() if isinstance(m, nn.Dropout)]
    assert held
    assert set(held) == {0.5}


def test_whatever_notes_a_dropout_leaves_nothing_out_until_the_end() -> None:
    network = nn.ModuleList([
        nn.Dropout(0.3), nn.Dropout2d(0.2), nn.AlphaDropout(0.1), nn.MultiheadAttention(8, 2, dropout=0.4),
        nn.GRU(4, 4, num_layers=2, dropout=0.6), nn.Linear(4, 4),
    ])  # fmt: skip
    before = copy.deepcopy(network)
    x, sequence = torch.randn(5, 8, 4, 4), torch.randn(3, 5, 8)
    with without_dropout(network), torch.no_grad():
        network.train()
        assert all(torch.equal(layer(x), x) for layer in network[:2])
        torch.testing.assert_close(network[2](x), x)
        training = network[3](sequence, sequence, sequence)[0]
        eval_mode = network[3].eval()(sequence, sequence, sequence)[0]
        torch.testing.assert_close(training, eval_mode)
        assert network[4].dropout == 0.0
    noted = [getattr(m, "p", getattr(m, "dropout", None)) for m in network]
    assert noted == [getattr(m, "p", getattr(m, "dropout", None)) for m in before]
