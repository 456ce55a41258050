"""Tuning to a preference: closed forms of the losses, a bandit whose optimum is known, and collapse that is
told."""

from __future__ import annotations

import json
import math

import pytest
import torch

from niwaki.core.contract import Batch, Context, DataSpec
from niwaki.core.store import write_tensors
from niwaki.data import Split
from niwaki.models.registry import build
from niwaki.training import TrainConfig, fit
from niwaki.training.failures import FAILURES
from niwaki.training.preference.config import PreferConfig
from niwaki.training.preference.diversity import Comparison, mean_distances, verdict
from niwaki.training.preference.dpo import Dpo, dpo_loss
from niwaki.training.preference.drawing import draw, likelihoods
from niwaki.training.preference.policy_gradient import leave_one_out
from niwaki.training.preference.reward_weighted import resampled, weights_of
from niwaki.training.preference.support import recalled
from niwaki_runtime.errors import CallError

LENGTH, TOKENS = 4, 5
SMALL = {"width": 16, "depth": 1, "heads": 2, "dropout": 0.0}


def ones(samples, asked):
    """A reward: whether a sample begins with token 1."""
    return (samples[:, 0] == 1).float()


def bright(samples, asked):
    return samples.flatten(1).mean(1)


def text_split(length=LENGTH, tokens=TOKENS, n=64):
    x = torch.randint(0, tokens, (n, length), generator=torch.Generator().manual_seed(0))
    return Split.of(DataSpec.of("text", (length,), levels=tokens), x)


def image_split(n=64):
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (n, 1, 8, 8), generator=rng, dtype=torch.uint8)
    return Split.of(DataSpec.of("image", (1, 8, 8), classes=3, levels=17), x, torch.arange(n) % 3)


def token_model(split, seed=0, **settings):
    torch.manual_seed(seed)
    return build("transformer", {**SMALL, **settings}, split.spec)


def denoiser(split, seed=0):
    torch.manual_seed(seed)
    return build("ddpm", {"widths": [8], "blocks": 1, "attention": [], "sampling": {"steps": 3}}, split.spec)


def stored(model, path):
    file = path / "model.safetensors"
    write_tensors(file, {name: value.detach().clone() for name, value in model.state_dict().items()})
    return str(file)


def context(seed=0):
    return Context(0, 0.0, "main", {}, torch.Generator().manual_seed(seed))


def settings(start, prefer, **more):
    rest = {"batch": 32, "lr": 1e-2, "ema": 0.0, "schedule": "constant", "checkpoint_every": 0}
    return TrainConfig.model_validate({"steps": 20, **rest, "init_from": start, "prefer": prefer, **more})


def pairs_of(split, model, seed=1):
    x = draw(model, 16, {k: split.columns[k].values()[:16] for k in model.conditions}, seed=seed, plain=True)
    y = {k: split.columns[k].values()[:8] for k in model.conditions}
    return Batch({"x": x[:8], "rejected": x[8:], **y})


@pytest.mark.parametrize(
    ["make", "data"], [(token_model, text_split), (denoiser, image_split)], ids=["tokens", "diffusion"]
)
def test_dpo_of_the_reference_itself_is_log_2_and_its_gradient_is_the_formula(make, data):
    """∇L = −β/2 (∇log π(w) − ∇log π(l)) where both models agree (Rafailov et al. 2023, section 4)."""
    split = data()
    model, reference = make(split), make(split).requires_grad_(False)
    # Fresh networks of diffusion end in zeros: other weights, so that there is something to differentiate.
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        p.data.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        q.data.copy_(p.data)
    config = PreferConfig(by="dpo", reward=f"{__name__}:bright", beta=0.3, samples=16, group=2, watch=8)
    config = config if make is denoiser else config.model_copy(update={"reward": f"{__name__}:ones"})
    tuning, batch = Dpo(config, reference, split, 0), pairs_of(split, model)
    loss = tuning.terms(model, batch, context())["dpo"]
    assert loss.item() == pytest.approx(math.log(2.0), abs=1e-6)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert found
    assert all(p.grad is None for p in reference.parameters())
    model.zero_grad()
    ctx = context()
    state = ctx.rng.get_state()
    chosen = batch.replaced(rejected=None)
    gap = likelihoods(model, chosen, ctx, state) - likelihoods(
        model, chosen.replaced(x=batch["rejected"]), ctx, state
    )
    (-0.3 / 2 * gap.mean()).backward()
    wanted = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert any(g.abs().max() > 1e-6 for g in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)


def test_dpo_loss_is_that_of_a_logistic_regression():
    margin = torch.tensor([0.0, 2.0, -1.0])
    wanted = [math.log1p(math.exp(-m)) for m in margin.tolist()]
    assert dpo_loss(margin).item() == pytest.approx(sum(wanted) / 3, rel=1e-6)


def test_likelihoods_are_log_prob_and_what_fills_a_sample_up_does_not_count():
    split = text_split()
    model = token_model(split).eval()
    x = split.values()[:8]
    each = torch.log_softmax(model.logits(x), -1).gather(-1, x[..., None]).squeeze(-1)
    found = model.log_likelihoods(Batch({"x": x}), context())
    torch.testing.assert_close(found, each.sum(1))
    torch.testing.assert_close(found, model.log_prob(x))


def test_a_baseline_of_the_others():
    found = leave_one_out(torch.tensor([[1.0, 2.0, 6.0]]))
    assert found.tolist()[0] == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5])


def first_token(model):
    model.eval()
    with torch.no_grad():
        return torch.softmax(model.logits(torch.zeros(1, 1, dtype=torch.int64))[0, 0].double(), -1)


@pytest.mark.parametrize("by", ["policy_gradient", "reward_weighted"])
def test_of_a_bandit_the_optimum_is_found(by, tmp_path):
    """π* ∝ π_ref exp(r/β) (Rafailov et al. 2023, Equation 4), two arms."""
    split = text_split(length=1, tokens=2)
    start, beta = token_model(split), 0.7
    before = first_token(start)
    wanted = before * torch.exp(torch.tensor([0.0, 1.0 / beta], dtype=torch.float64))
    wanted /= wanted.sum()
    prefer = {"by": by, "reward": f"{__name__}:ones", "beta": beta, "samples": 8192, "group": 8, "watch": 8}
    config = settings(stored(start, tmp_path), prefer, steps=250, batch=256, lr=3e-3, schedule="cosine")
    model = token_model(split, seed=5)
    fit(model, split, config, seed=0)
    assert wanted[1] - before[1] > 0.2
    assert first_token(model)[1].item() == pytest.approx(wanted[1].item(), abs=0.03)


def test_weights_are_a_softmax_within_each_question_and_samples_come_as_often():
    worth, kinds = torch.tensor([0.0, 1.0, 5.0, 5.0]), torch.tensor([0, 0, 1, 1])
    weights = weights_of(worth, kinds, 0.5)
    e = math.exp(2.0)
    assert weights.tolist() == pytest.approx([2 / (1 + e), 2 * e / (1 + e), 1.0, 1.0])
    counts = torch.bincount(resampled(torch.tensor([1.0, 0.0, 2.0, 1.0]), 3), minlength=4)
    assert counts.tolist() == [1, 0, 2, 1]


def test_a_reward_that_wants_one_mode_is_caught(tmp_path):
    """A reward without a price: the model makes one beginning alone, which the reward does not tell."""
    split = text_split()
    start = stored(token_model(split), tmp_path)
    prefer = {"by": "policy_gradient", "reward": f"{__name__}:one_text", "beta": 1e-3, "group": 8}
    model, notes = token_model(split, seed=5), []
    config = settings(start, prefer, steps=150, batch=64, validate_every=50)
    result = fit(model, split, config, seed=0, note=notes.append)
    lost, *later = result.told
    assert lost["failure"] == "less_diverse"
    assert {of["failure"] for of in later} <= {"dead"}  # all rewards are the same: nothing to learn is left
    assert result.told[0]["lasting"]
    look = result.looks[-1]
    assert look["reward"][1] > look["reward"][0] + 0.3
    assert look["diversity"][2] < -0.3
    assert any("a loss beyond 10%" in note for note in notes)
    stopped = settings(start, {**prefer, "stop": True}, steps=150, batch=64, validate_every=50)
    assert fit(token_model(split, seed=5), split, stopped, seed=0).steps < 150


def one_text(samples, asked):
    return (samples == 2).float().mean(1)


def test_a_gentle_tuning_is_not_told_of(tmp_path):
    split = text_split()
    prefer = {"by": "policy_gradient", "reward": f"{__name__}:one_text", "beta": 100.0, "group": 8}
    result = fit(
        token_model(split, seed=5), split, settings(stored(token_model(split), tmp_path), prefer), seed=0
    )
    assert not result.told
    assert result.chosen[-1]["name"] == "preference"


def test_distances_and_verdicts_by_hand():
    x = torch.tensor([[0, 0], [0, 1], [1, 1]])
    assert mean_distances(x, tokens=True).tolist() == pytest.approx([0.75, 0.5, 0.75])
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert mean_distances(rows, tokens=False).tolist() == pytest.approx([5 / 2**0.5] * 2)
    for interval, name in [
        [[0.0, -0.05, 0.05], "kept"],
        [[-0.3, -0.4, -0.2], "lost"],
        [[-0.1, -0.3, 0.1], "open"],
    ]:
        assert verdict({"diversity": interval, "margin": 0.1})[0] == name


@pytest.mark.parametrize("by", ["dpo", "policy_gradient", "reward_weighted"])
def test_a_tuning_that_was_stopped_ends_as_one_that_was_not(by, tmp_path):
    split = text_split()
    start = stored(token_model(split), tmp_path)
    prefer = {"by": by, "reward": f"{__name__}:one_text", "beta": 0.5, "samples": 64, "watch": 8}
    config = settings(start, prefer, steps=6, checkpoint_every=3)
    whole = token_model(split, seed=5)
    fit(whole, split, config, seed=0)

    def leave(step, measured):
        if step == 3:
            raise RuntimeError

    folder, part = tmp_path / "run", token_model(split, seed=5)
    with pytest.raises(RuntimeError):
        fit(part, split, config, seed=0, directory=folder, on_validation=leave)
    again = token_model(split, seed=9)
    fit(again, split, config, seed=0, directory=folder, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_pairs_are_read_from_json_lines(tmp_path):
    split = text_split()
    start = stored(token_model(split), tmp_path)
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": [0], "chosen": [1, 2, 3], "rejected": [4, 4, 4]}, {"chosen": 3, "rejected": 4}]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    model = token_model(split, seed=5)
    config = settings(start, {"by": "dpo", "pairs": str(file), "beta": 0.5}, batch=2, steps=30)
    result = fit(model, split, config, seed=0)
    assert result.last["nll/accuracy"] > 0.9
    rows = torch.tensor([[0, 1, 2, 3], [0, 4, 4, 4]])
    before = token_model(split).eval().log_prob(rows)
    gain = model.log_prob(rows) - before
    assert gain[0] > gain[1] + 1.0


def test_pairs_of_pictures_and_of_seeds(tmp_path):
    from PIL import Image

    split = image_split()
    for name, level in [["light", 255], ["dark", 0]]:
        Image.new("L", (8, 8), level).save(tmp_path / f"{name}.png")
    file = tmp_path / "pairs.jsonl"
    lines = [
        {"class": 1, "chosen": "light.png", "rejected": "dark.png"},
        {"class": 2, "chosen": 5, "rejected": 6},
    ]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    reference = denoiser(split).eval()
    config = PreferConfig(by="dpo", pairs=str(file), watch=8)
    pairs = Dpo(config, reference, split, 0).pairs
    assert pairs.columns["class"].values().tolist() == [1, 2]
    assert pairs.values()[0].min() == 1.0
    assert pairs.columns["rejected"].values()[0].max() == -1.0
    made = reference.run("sample", 1, seed=5, inputs={"class": torch.tensor([2])})[0]
    torch.testing.assert_close(pairs.values()[1], made)


@pytest.mark.parametrize(
    ["text", "said"],
    [
        ("{", "no JSON"),
        ('{"chosen": [1]}', "'chosen' and 'rejected'"),
        ('{"chosen": [1, 2, 3, 9], "rejected": 1}', "list of tokens"),
        ('{"chosen": [1, 2, 3, 4, 0], "rejected": 1}', "samples have 4"),
        ("", "no pairs"),
    ],
)
def test_a_broken_line_is_one_sentence(text, said, tmp_path):
    split = text_split()
    file = tmp_path / "pairs.jsonl"
    file.write_text(text)
    config = settings(stored(token_model(split), tmp_path), {"by": "dpo", "pairs": str(file)})
    with pytest.raises(CallError, match=said):
        fit(token_model(split), split, config, seed=0)


def test_what_cannot_be_tuned_is_refused(tmp_path):
    split, images = text_split(), image_split()
    start = stored(token_model(split), tmp_path)
    prefer = {"by": "dpo", "reward": "length"}
    with pytest.raises(CallError, match="init_from"):
        fit(token_model(split), split, TrainConfig.model_validate({"prefer": prefer}), seed=0)
    with pytest.raises(CallError, match=r"there is no 'lenght'.*length"):
        fit(token_model(split), split, settings(start, {**prefer, "reward": "lenght"}), seed=0)
    with pytest.raises(CallError, match=r"there is no 'dop'.*dpo"):
        fit(token_model(split), split, settings(start, {**prefer, "by": "dop"}), seed=0)
    other = stored(denoiser(images), tmp_path)
    gradient = {"by": "policy_gradient", "reward": f"{__name__}:bright"}
    with pytest.raises(CallError, match="exact probabilities"):
        fit(denoiser(images), images, settings(other, gradient), seed=0)


@pytest.mark.parametrize("by", ["dpo", "reward_weighted"])
def test_diffusion_is_tuned_to_what_is_bright(by, tmp_path):
    split = image_split()
    start = denoiser(split)
    fit(start, split, TrainConfig.model_validate({"steps": 60, "batch": 32, "lr": 3e-3, "ema": 0.0}), seed=0)
    prefer = {"by": by, "reward": f"{__name__}:bright", "beta": 0.1, "samples": 128, "watch": 64}
    model = denoiser(split, seed=5)
    result = fit(model, split, settings(stored(start, tmp_path), prefer, steps=80, lr=2e-3), seed=0)
    before, now, low, _ = result.looks[-1]["reward"]
    assert low > 0
    assert now > before


class Modes(torch.nn.Module):
    """Points about 24 places of a grid: all of them, some of them, or only the middle of each."""

    def __init__(self, modes: list[int], width: float = 1.0) -> None:
        super().__init__()
        self.modes, self.width, self.conditions = torch.tensor(modes), width, {}
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.spec = DataSpec.of("vector", (8,))

    def run(self, program, n, *, seed, inputs=None, **options):
        rng = torch.Generator().manual_seed(seed)
        at = torch.randint(len(self.modes), (n,), generator=rng)
        places = torch.randn(24, 8, generator=torch.Generator().manual_seed(9))
        spread = 0.3 * torch.randn(n, 8, generator=rng)
        return places[self.modes[at]] + self.width * spread


@pytest.mark.parametrize(
    ["tuned", "name"],
    [
        (Modes(list(range(24))), "kept"),
        (Modes([m for m in range(24) if m % 3]), "lost"),  # a third of the modes is gone
        (Modes(list(range(24)), width=0.25), "lost"),  # every mode is thinned to its middle
    ],
)
def test_what_is_thinned_is_seen_by_recall_and_not_by_the_distance(tuned, name):
    config = PreferConfig(by="dpo", reward="length", watch=512)
    look = Comparison(Modes(list(range(24))), {}, None, config, seed=3).look(tuned)
    assert abs(look["diversity"][0]) < 0.1
    assert verdict({**{k: v for k, v in look.items() if k != "recall"}})[0] in ("kept", "open")
    found, text = verdict(look)
    assert found == name, text
    assert bool(FAILURES["less_diverse"].say(look)) == (name == "lost")
    assert f"[{look['recall'][2]:+.1%}" in text
    assert look["recall"][0] > 0.9


def test_recall_by_hand():
    made = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [20.0]])
    known = torch.tensor([[2.5], [9.5], [10.5], [39.0]])
    # The fifth neighbour of 5 is 0, that of 0 is 5, and that of 20 is 1, 19 away.
    assert recalled(known, made, tokens=False).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert recalled(known, made[:6], tokens=False).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_reward_that_thins_stops_the_tuning(tmp_path):
    """A reward for half of the tokens leaves texts about as far apart, and half of them are never made."""
    split = text_split(tokens=16)
    start = stored(token_model(split), tmp_path)
    prefer = {
        "by": "policy_gradient", "reward": f"{__name__}:low_tokens", "beta": 1e-3, "group": 8, "stop": True,
        "watch": 512,
    }  # fmt: skip
    config = settings(start, prefer, steps=80, batch=128, validate_every=20)
    result = fit(token_model(split, seed=5), split, config, seed=0)
    look = result.looks[-1]
    assert result.steps < 80
    assert [of["failure"] for of in result.told] == ["less_diverse"]
    assert look["diversity"][2] > -0.1
    assert look["recall"][3] < -0.1


def low_tokens(samples, asked):
    return (samples < 8).float().mean(1)
