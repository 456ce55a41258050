"""A reward that is learnt from pairs: its loss, the order that it finds, and tuning by it."""

from __future__ import annotations

import json
import math

import pytest
import torch

from niwaki.core.contract import DataSpec
from niwaki.core.store import write_tensors
from niwaki.data import Split
from niwaki.models.registry import build
from niwaki.training import TrainConfig, fit
from niwaki.training.preference.config import RewardConfig
from niwaki.training.preference.reward_model import pair_loss, train_reward
from niwaki.training.weights import init_from_hashes
from niwaki_runtime.errors import CallError

TEXT = DataSpec.of("text", (4,), levels=8)


def known(x):
    """The reward that judges: how high the tokens are."""
    return x.float().mean(1)


def pairs(n=600, seed=0, noise=0.0):
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(0, 8, (n, 4), generator=rng) for _ in range(2))
    gap = known(a) - known(b) + noise * torch.randn(n, generator=rng)
    first = (gap > 0)[:, None]
    return torch.where(first, a, b), torch.where(first, b, a)


def test_the_loss_is_that_of_bradley_and_terry():
    chosen, rejected = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    wanted = [-math.log(math.exp(a) / (math.exp(a) + math.exp(b))) for a, b in ((1, 0), (0, 2))]
    assert pair_loss(chosen, rejected).item() == pytest.approx(sum(wanted) / 2, rel=1e-6)
    assert pair_loss(chosen + 7.0, rejected + 7.0).item() == pytest.approx(sum(wanted) / 2, rel=1e-6)


def test_a_known_reward_is_recovered_in_its_order():
    found = train_reward(TEXT, *pairs(), None, classes=0, config=RewardConfig(pairs="x", steps=120), seed=0)
    assert found.accuracy > 0.85
    assert found.interval[0] < found.accuracy < found.interval[1]
    assert found.pairs == 120
    fresh = torch.randint(0, 8, (400, 4), generator=torch.Generator().manual_seed(7))
    ranks = [values.argsort().argsort().double() for values in (found(fresh, {}), known(fresh))]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.9
    again = train_reward(TEXT, *pairs(), None, classes=0, config=RewardConfig(pairs="x", steps=120), seed=0)
    assert torch.equal(again(fresh, {}), found(fresh, {}))


@pytest.mark.slow
def test_it_learns_what_a_class_makes_of_a_sample():
    """Bright pictures of class 1 are preferred, dark ones of class 0."""
    spec = DataSpec.of("image", (1, 8, 8), classes=2)
    rng = torch.Generator().manual_seed(0)
    label = torch.arange(400) % 2
    level = torch.rand(400, 2, generator=rng).sort(1).values * 2 - 1
    bright, dark = (level[:, i].view(-1, 1, 1, 1).expand(400, 1, 8, 8) for i in (1, 0))
    ask = label.view(-1, 1, 1, 1) == 1
    chosen, rejected = torch.where(ask, bright, dark), torch.where(ask, dark, bright)
    found = train_reward(
        spec, chosen, rejected, label, classes=2, config=RewardConfig(pairs="x", steps=80), seed=0
    )
    assert found.accuracy > 0.9


def written(path, chosen, rejected):
    sides = zip(chosen.tolist(), rejected.tolist(), strict=True)
    path.write_text("\n".join(json.dumps({"chosen": a, "rejected": b}) for a, b in sides))
    return str(path)


@pytest.mark.slow
def test_a_model_is_tuned_by_it_and_the_file_belongs_to_the_run(tmp_path):
    x = torch.randint(0, 8, (64, 4), generator=torch.Generator().manual_seed(0))
    split = Split.of(TEXT, x)

    def model(seed):
        torch.manual_seed(seed)
        return build("transformer", {"width": 16, "depth": 1, "heads": 2, "dropout": 0.0}, split.spec)

    start = model(0)
    write_tensors(tmp_path / "model.safetensors", {n: v.clone() for n, v in start.state_dict().items()})
    file = written(tmp_path / "pairs.jsonl", *pairs())
    prefer = {
        "by": "policy_gradient",
        "reward": {"pairs": file, "steps": 100},
        "beta": 0.3,
        "group": 8,
        "watch": 64,
    }
    config = TrainConfig.model_validate(
        {"steps": 30, "batch": 64, "lr": 1e-2, "ema": 0.0, "checkpoint_every": 0, "prefer": prefer,
         "init_from": str(tmp_path / "model.safetensors")}
    )  # fmt: skip
    tuned, notes = model(5), []
    result = fit(tuned, split, config, seed=0, note=notes.append)
    chosen = [of for of in result.chosen if of["name"] == "reward"]
    assert chosen[0]["value"] > 0.85
    assert any("tells the preferred one in" in note for note in notes)
    made = [m.run("sample", 256, seed=1) for m in (start.eval(), tuned.eval())]
    assert known(made[1]).mean() > known(made[0]).mean() + 0.3
    assert file in init_from_hashes(config)


def test_pairs_that_say_nothing_and_too_few_are_refused(tmp_path):
    x = torch.randint(0, 8, (64, 4), generator=torch.Generator().manual_seed(0))
    split = Split.of(TEXT, x)
    torch.manual_seed(0)
    model = build("transformer", {"width": 16, "depth": 1, "heads": 2}, split.spec)
    write_tensors(tmp_path / "model.safetensors", {n: v.clone() for n, v in model.state_dict().items()})
    rng = torch.Generator().manual_seed(3)
    by_chance = [torch.randint(0, 8, (300, 4), generator=rng) for _ in range(2)]
    for rows, said in ((by_chance, "may be chance"), ([r[:20] for r in by_chance], "20 pairs are too few")):
        file = written(tmp_path / "pairs.jsonl", *rows)
        config = TrainConfig.model_validate(
            {"steps": 2, "batch": 8, "init_from": str(tmp_path / "model.safetensors"),
             "prefer": {"by": "reward_weighted", "reward": {"pairs": file, "steps": 30}}}
        )  # fmt: skip
        with pytest.raises(CallError, match=said):
            fit(model, split, config, seed=0)
