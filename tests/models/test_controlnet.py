"""The control branch: at first the base itself, then led by the picture; the base stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import SMALL_TRANSFORMER, batch, context, stirred
from torch import nn

from niwaki import models
from niwaki.compression.distillation.student import with_sampling
from niwaki.compression.pruning.frozen import frozen_parts
from niwaki.core.contract import (
    Batch,
    CallError,
    Context,
    DataSpec,
    GenerativeModel,
    Levels,
    Program,
    Tokens,
    ValueSpec,
)
from niwaki.deployment import export_graphs, package
from niwaki.training.weights import Source, init_from
from niwaki_runtime import load
from niwaki_runtime.samplers import Diffusion

IMAGES = DataSpec.of("image", (1, 8, 8), levels=17, classes=3)
EDGES = ValueSpec("image", (1, 8, 8), "CHW", Levels(2, -1.0, 1.0))
LED = DataSpec({**IMAGES.columns, "edges": EDGES})
CAPTION = ValueSpec("text", (4,), "T", Tokens(9, "tokenizer.json"))
SMALL: dict[str, Any] = {"widths": (8, 16), "blocks": 1, "attention": (4,), "groups": 4, "heads": 2}
BASES: list[Any] = [
    {"name": "ddpm"},
    {"name": "edm"},
    {"name": "flow-matching", "weighting": "learned"},
    {"name": "ddpm", "learned_variance": True, "patch": 2, "attention": ()},
    {"name": "flow-matching", "self_conditioning": True, "conditional": False},
    pytest.param({"name": "flow-matching", "likelihood": True}, marks=pytest.mark.slow),
]


def controlnet(base: dict[str, Any] | None = None, spec: DataSpec = LED, **changes: Any) -> GenerativeModel:
    torch.manual_seed(0)
    settings = {**SMALL, "sampling": {"steps": 2}, **(base or {"name": "ddpm"})}
    return models.build("controlnet", {"base": settings, "width": 4, **changes}, spec)


def both(base: dict[str, Any]) -> tuple[GenerativeModel, GenerativeModel]:
    """A base that says something, and a model that leads it, as a training begins."""
    led = controlnet(base)
    settings = {k: v for k, v in led.config.base.items() if k != "name"}
    alone = stirred(models.build(base["name"], settings, IMAGES), 0.3)
    led.base.load_state_dict(alone.state_dict())
    led.begin_stage(context(), lambda k: batch(LED))
    return alone.eval(), led.eval()


@pytest.mark.parametrize("base", BASES, ids=str)
def test_before_its_first_step_it_says_what_its_base_says_bit_for_bit(base: dict[str, Any]) -> None:
    alone, led = both(base)
    told = batch(LED, 4)
    asked = {name: told[name].numpy() for name in alone.conditions}
    given = {**asked, "edges": told["edges"].numpy()}
    assert led.branch.says_nothing()
    assert torch.equal(
        led.sample(4, seed=1, condition=given), alone.sample(4, seed=1, condition=asked or None)
    )
    if "log_prob" in alone.programs():
        rows = {"x": told.x.numpy()}
        one, other = (
            model.run("log_prob", 4, inputs={**rows, **more})
            for model, more in ((alone, {}), (led, {"edges": given["edges"]}))
        )
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("base", BASES, ids=str)
def test_gradients_reach_the_branch_alone_and_all_of_it(base: dict[str, Any]) -> None:
    _, led = both(base)
    stirred(led.branch, 0.1)
    led.train()
    torch.stack(list(led.loss("branch", batch(LED), context()).values())).sum().backward()
    assert all(p.grad is None for p in led.base.parameters())
    still = [n for n, p in led.branch.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    assert not led.base.training
    assert frozen_parts(led) == ("base",)


def test_the_first_steps_move_the_zero_layers_first() -> None:
    """A layer of zeros has a slope where what it is given is not zero (Section 3.1 of the paper)."""
    _, led = both({"name": "ddpm"})
    torch.stack(list(led.loss("branch", batch(LED), context()).values())).sum().backward()
    moved = {
        n.partition(".")[0] for n, p in led.branch.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert moved == {"skips", "middle"}


def test_a_branch_begins_as_a_copy_and_one_that_was_trained_stays() -> None:
    _, led = both({"name": "ddpm"})
    trunk, unet = led.branch.trunk.state_dict(), led.base.denoiser.state_dict()
    assert trunk
    assert all(torch.equal(weight, unet[name]) for name, weight in trunk.items())
    assert not any(name.startswith(("up.", "output.")) for name in trunk)
    stirred(led.branch, 0.1)
    before = {k: v.clone() for k, v in led.branch.state_dict().items()}
    led.begin_stage(context(), lambda k: batch(LED))
    assert all(torch.equal(v, before[k]) for k, v in led.branch.state_dict().items())


def test_the_base_comes_from_a_training_of_its_own(tmp_path: Path) -> None:
    alone, _ = both({"name": "ddpm"})
    models.save_model(alone, tmp_path)
    fresh = controlnet({"name": "ddpm"})
    init_from(fresh, Source(tmp_path, prefix="base"))
    assert all(torch.equal(v, alone.state_dict()[k]) for k, v in fresh.base.state_dict().items())


def test_a_caption_is_asked_beside_the_picture_and_guidance_leaves_the_picture() -> None:
    spec = DataSpec({**IMAGES.columns, "caption": CAPTION, "edges": EDGES})
    led = stirred(
        controlnet({"name": "ddpm", "conditioning": {"columns": ["caption"], "drop": 0.1}}, spec), 0.2
    )
    assert list(led.conditions) == ["caption", "edges"]
    assert led.conditions["edges"].null is None
    rows = batch(spec, 3)
    asked = {name: rows[name].numpy() for name in led.conditions}
    plain = led.eval().sample(3, condition=asked)
    assert torch.equal(led.sample(3, condition=asked, guidance=1.0), plain)
    assert not torch.equal(led.sample(3, condition=asked, guidance=3.0), plain)
    none = {**asked, "caption": np.zeros((3, 4), int)}
    assert torch.equal(led.sample(3, condition=asked, guidance=0.0), led.sample(3, condition=none))
    turned = {**asked, "edges": -asked["edges"]}
    for weight in (0.0, 1.0):
        one, other = (led.sample(3, condition=c, guidance=weight) for c in (asked, turned))
        assert not torch.allclose(one, other, atol=1e-3)


def test_latents_are_led_by_a_picture_in_pixels() -> None:
    """As many pixels of it as lie in one latent become channels of one place."""
    spec = DataSpec(
        {
            **DataSpec.of("image", (1, 16, 16), classes=3).columns,
            "edges": ValueSpec("image", (1, 16, 16), "CHW", Levels(2, -1.0, 1.0)),
        }
    )
    base = {"name": "latent-diffusion", "autoencoder": {"name": "spatial-vae", "width": 4}, "attention": ()}
    led = controlnet(base, spec)
    told = batch(spec, 3)
    given = {name: told[name].numpy() for name in led.conditions}
    assert led.eval().sample(3, condition=given).shape == (3, 1, 16, 16)
    led.loss("branch", told, context())["denoiser"].backward()
    assert all(p.grad is None for p in led.base.parameters())


def test_programs_are_those_of_the_base_and_take_the_picture() -> None:
    led = controlnet({"name": "ddpm"})
    assert set(led.programs()) >= {"sample", "inpaint", "edit", "encode", "decode"}
    assert all("edges" in program.inputs for program in led.programs().values())
    assert all(isinstance(program, Program) for program in led.programs().values())


def test_it_samples_as_its_base_says_and_as_a_student_is_told() -> None:
    led = controlnet({"name": "ddpm", "sampling": {"steps": 7, "solver": "euler"}})
    told = [p.sampler.parts()[0] for p in led.programs().values()]
    assert {part.steps for part in told if isinstance(part, Diffusion)} == {7}
    with_sampling(led, steps=3)
    again = models.build("controlnet", led.config.model_dump(), LED)
    for model in (led, again):
        plan = model.sampler()
        assert isinstance(plan, Diffusion)
        assert (plan.steps, plan.solver) == (3, "euler")


@pytest.mark.parametrize(
    ("base", "spec", "changes", "text"),
    [
        ({"name": "ddpm"}, IMAGES, {}, "no column 'edges' of control pictures"),
        ({"name": "ddpm"}, LED, {"control": "class"}, "control pictures are images"),
        ({"name": "mean-flow"}, LED, {}, "'mean-flow' has no denoiser to lead"),
        ({"name": "flow-matching", "network": {"name": "dit", **SMALL_TRANSFORMER}}, LED, {}, "no U-Net"),
        ({"name": "vae"}, LED, {}, "no setting 'widths'"),
        ({"name": "ddpm"}, LED, {"conditioning": {"drop": 0.5}}, "set model.base.conditioning"),
        (
            {"name": "ddpm"},
            DataSpec({**IMAGES.columns, "edges": ValueSpec("image", (1, 9, 8))}),
            {},
            "9×8 pixels does not lie over 8×8 places",
        ),
    ],
)
def test_what_cannot_be_led_is_said(
    base: dict[str, Any], spec: DataSpec, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(CallError, match=text):
        controlnet(base, spec, **changes)


@pytest.mark.slow
def test_a_bundle_takes_the_picture(tmp_path: Path) -> None:
    led = stirred(controlnet({"name": "ddpm"}), 0.2).eval()
    told: Batch = batch(LED, 3)
    given = {name: told[name].numpy() for name in led.conditions}
    bundle = package(led, export_graphs(led, tmp_path / "graphs"), tmp_path / "one.niwaki")
    wanted = led.sample(3, seed=1, condition=given).numpy()
    for engine in ("openvino", "onnxruntime"):
        runner = load(bundle, engine=engine, precision="exact")
        np.testing.assert_allclose(runner.sample(3, seed=1, condition=given), wanted, atol=1e-4)


def descend(part: nn.Module, loss: Callable[[Context], dict[str, torch.Tensor]], steps: int) -> None:
    optimizer = torch.optim.Adam(part.parameters(), lr=4e-3)
    for k in range(steps):
        optimizer.zero_grad()
        torch.stack(list(loss(context(k)).values())).sum().backward()
        optimizer.step()


@pytest.mark.slow
def test_a_small_one_learns_to_obey() -> None:
    """Half of the pictures are light on the left, half on the right; which, the branch alone decides, since
    the base is asked for nothing."""
    left = torch.ones(1, 1, 8, 8)
    left[..., 4:] = -1.0
    x = torch.cat([left, -left]).repeat(8, 1, 1, 1)
    led = controlnet({"name": "flow-matching", "attention": ()}, DataSpec({"x": IMAGES.x, "edges": EDGES}))
    settings = {k: v for k, v in led.config.base.items() if k != "name"}
    alone = models.build("flow-matching", settings, DataSpec({"x": IMAGES.x}))
    descend(alone, lambda c: alone.loss("denoiser", Batch({"x": x}), c), 60)
    led.base.load_state_dict(alone.state_dict())
    led.begin_stage(context(), lambda k: Batch({"x": x}))
    descend(led.branch, lambda c: led.loss("branch", Batch({"x": x, "edges": x}), c), 120)
    made = led.eval().sample(16, steps=8, condition={"edges": x.numpy()})
    assert float((made.sign() == x).float().mean()) > 0.9
