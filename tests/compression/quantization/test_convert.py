"""Any shape of model quantized in torch: as asked, reloaded bit for bit, alike in both engines, trainable."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from compression import small_models
from pydantic import ValidationError
from torch import Tensor, nn

from niwaki.compression import (
    CompressConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
    check_order,
    compress,
)
from niwaki.compression.arithmetic import macs, parameters
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.quantization.correct import correct_biases
from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.quantization.ranges import calls, observe
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki.deployment import count_quantized, export_graphs
from niwaki.deployment.bake import bake
from niwaki.deployment.qdq import check_quantized
from niwaki.models import load_model
from niwaki.models.io import save_model
from niwaki.surgery.quantized import Quantizer, is_quantizable, quantized_layers

SHAPES: dict[str, Callable[[], GenerativeModel]] = {
    "upsampling": small_models.gan,
    "transposed": lambda: small_models.gan("transposed", width=32),
    "hard": lambda: small_models.gan("hard", width=32),
    "diffusion": small_models.ddpm,
    "flow": small_models.flow,
    "autoregressive": small_models.recurrent,
}


def lively(name: str) -> GenerativeModel:
    """With norms that do something."""
    model = SHAPES[name]()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 2.0)
    return model.eval()


def config(**settings: Any) -> QuantizeConfig:
    return QuantizeConfig(**{"backend": "niwaki", "calibration": 32, **settings})


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("diffusion", "flow", "hard") else n for n in SHAPES],
)
def test_every_shape_is_quantized_and_the_engines_compute_what_torch_does(name: str, tmp_path: Path) -> None:
    model = lively(name)
    before = copy.deepcopy(model.state_dict())
    made = quantize_model(model, config())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # a copy was changed
    assert macs(made.model) == macs(model)
    assert parameters(made.model) <= parameters(model)  # norms went away, scales are not counted
    kept = [n for n, m in made.model.named_modules() if is_quantizable(m)]
    assert all("critic" in n or "embed" in n for n in kept)  # small tables, and what only training uses
    paths = export_graphs(made.model, tmp_path)
    for graph, path in paths.items():
        counts = count_quantized(path)
        assert counts["quantized"] == counts["total"] > 0
        view = made.model.graphs()[graph]
        # A whole layer wrong by a step would show: 8 bits cost about 1 % here.
        assert max(check_quantized(graph, view, bake(view.module), path).worst.values()) < 0.01
    floats = [t for t in onnx.load(path).graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert sum(np.prod(t.dims) for t in floats if len(t.dims) > 1 and "embed" not in t.name) < 600
    wanted, got = (m.sample(64, seed=1).float() for m in (model, made.model))
    assert float((wanted - got).abs().mean() / wanted.std()) < 0.05


RELOAD = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from compression import small_models
from niwaki.models import load_model
model = load_model(sys.argv[1])
torch.save(model.sample(4, seed=7), sys.argv[3])
"""


def test_a_fresh_process_reloads_it_bit_for_bit(tmp_path: Path) -> None:
    mixed = {"generator.body.0": {"bits": 4, "granularity": "group", "activations": "float"}}
    made = quantize_model(lively("transposed"), config(layers=mixed)).model
    save_model(made, tmp_path / "model")
    tests = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", RELOAD, tmp_path / "model", tests, tmp_path / "x.pt"], check=True)
    assert torch.equal(torch.load(tmp_path / "x.pt", weights_only=True), made.sample(4, seed=7))
    again = load_model(tmp_path / "model")
    assert again.surgery == made.surgery


def test_mixed_maps_are_honoured_to_the_longest_name() -> None:
    layers = {"unet": {"bits": 6}, "unet.down1": {"bits": 4}, "unet.down1.conv2": "float", "unet.embed": {}}
    made = quantize_model(lively("diffusion"), config(layers=layers, ignored=("unet.last",)))
    bits = {n: m.weight_quantizer.high for n, m in quantized_layers(made.model).items()}
    assert bits["unet.time1"] == 31
    assert bits["unet.down1.conv1"] == 7
    assert "unet.down1.conv2" not in bits
    assert "unet.last" not in bits
    assert bits["unet.embed"] == 127  # a small table, but asked for by its name
    assert made.skipped == dict.fromkeys(("unet.down1.conv2", "unet.last"), "left in float as asked")
    assert made.notes[0] == "2 layers with 4-bit weights and 8-bit inputs"
    with pytest.raises(CallError, match=r"did you mean 'unet\.last'"):
        quantize_model(lively("diffusion"), config(layers={"unet.lst": {"bits": 4}}))


@pytest.mark.slow
def test_fewer_bits_err_more_and_weights_stay_on_their_grid(tmp_path: Path) -> None:
    model, errors = lively("upsampling"), []
    wanted = model.sample(64, seed=1)
    for bits in (8, 6, 4, 3, 2):
        made = quantize_model(model, config(bits=bits)).model
        errors.append(float((made.sample(64, seed=1) - wanted).abs().mean() / wanted.std()))
        tables = [
            m.weight_quantizer.integers(m._parameters["weight"]) for m in quantized_layers(made).values()
        ]
        assert len(tables) == 4
        assert max(int(t.abs().max()) for t in tables) == 2 ** (bits - 1) - 1
        if bits == 3:
            stored = onnx.load(export_graphs(made, tmp_path)["generator"]).graph.initializer
            found = [onnx.numpy_helper.to_array(t) for t in stored if t.data_type == onnx.TensorProto.INT8]
            wanted_bytes = sorted(t.numpy().tobytes() for t in tables)
            assert sorted(t.tobytes() for t in found if t.ndim > 1) == wanted_bytes
    assert errors == sorted(errors)
    assert errors[0] < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", ["upsampling", "transposed"])
def test_inputs_of_fewer_bits_have_fewer_levels_and_the_files_compute_the_same(
    name: str, tmp_path: Path
) -> None:
    model, errors = lively(name), []
    wanted = model.sample(64, seed=1)
    for bits in (8, 5, 3):
        made = quantize_model(model, config(activations=bits)).model
        errors.append(float((made.sample(64, seed=1) - wanted).abs().mean() / wanted.std()))
        for q in [m.input_quantizer for m in quantized_layers(made).values()]:
            assert isinstance(q, Quantizer)
            assert q(torch.linspace(-9, 9, 5000)).unique().numel() <= 2**bits
            assert q.high - q.low == 2**bits - 1
        path = export_graphs(made, tmp_path / str(bits))["generator"]
        view = made.graphs()["generator"]
        engines = check_quantized("generator", view, bake(view.module), path).worst
        assert min(engines.values()) < 1e-5
        # A value in the middle of two steps may be rounded either way, and a step of 3 bits is a large one.
        assert max(engines.values()) < (0.01 if bits == 8 else 0.05)
    assert errors == sorted(errors)
    save_model(made, tmp_path / "model")
    assert torch.equal(load_model(tmp_path / "model").sample(4, seed=7), made.sample(4, seed=7))
    assert "with 8-bit weights and 3-bit inputs" in quantize_model(model, config(activations=3)).notes[0]


class IdleBody(small_models.UpsampleGenerator):
    """With a layer that no graph calls, and one whose input is always zero."""

    def __init__(self, latent: int, w: int, classes: int) -> None:
        super().__init__(latent, w, classes)
        self.idle, self.dead = nn.Linear(4, 4), nn.Linear(latent, 64)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return super().forward(z, y) + self.dead(0 * z).unflatten(1, (1, 8, 8))


def test_layers_without_a_call_stay_float_and_dead_inputs_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(small_models.BODIES, "idle", IdleBody)
    model = small_models.gan("idle").eval()
    found = observe(model, calibration_inputs(model, 16), is_quantizable)
    assert (found["generator.dead"].least, found["generator.dead"].most) == (0.0, 0.0)
    made = quantize_model(model, config())
    assert made.skipped["generator.idle"] == "no program calls it"
    assert "generator.idle" not in quantized_layers(made.model)
    wanted, got = model.sample(16, seed=0), made.model.sample(16, seed=0)
    assert float((wanted - got).abs().mean() / wanted.std()) < 0.05


def test_ranges_are_those_of_the_calls() -> None:
    model = lively("autoregressive")
    items = calibration_inputs(model, 20)
    graph = model.graphs()["decode"]
    batches = list(calls(graph, items["decode"]))
    assert len(batches) == 5  # by position, which has no batch axis
    assert sum(len(b[0]) for b in batches) == 20
    seen = observe(model, items, lambda m: m is model.cell.head)["cell.head"]
    inputs = torch.cat([graph(*b)[1] for b in batches])  # the head is given the new hidden state
    assert seen.least == pytest.approx(float(inputs.detach().min()))
    assert seen.most == pytest.approx(float(inputs.detach().max()))


def test_inputs_are_unsigned_except_signed_ones_of_transposed_convolutions() -> None:
    made = quantize_model(lively("transposed"), config()).model
    inputs = {n: m.input_quantizer for n, m in quantized_layers(made).items()}
    assert [q.signed for q in inputs.values()] == [True, False, True]  # latents, after ReLU, after PReLU
    assert all(float(q.zero) == 0 for q in inputs.values())


class Twice(small_models.SmallGan):
    """A convolution whose output goes to a norm and past it."""

    def __init__(self, config: Any, spec: Any) -> None:
        super().__init__(config, spec)

        class Body(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.start, self.conv = nn.Linear(12, 64), nn.Conv2d(1, 1, 3, padding=1)
                self.norm, self.one, self.two = nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

            def forward(self, z: Tensor, y: Tensor) -> Tensor:
                h = self.conv(self.start(z).unflatten(1, (1, 8, 8)))
                return torch.tanh(self.two(self.one(h + self.norm(h))))

        self.generator = Body()


def test_norms_are_folded_where_nothing_else_reads_the_layer() -> None:
    torch.manual_seed(0)
    model = Twice(small_models.Config(), small_models.IMAGE).eval()
    assert fold_norms(model) == (("generator.one", "generator.two"),)
    model = lively("upsampling")
    wanted = model.sample(8, seed=0)
    assert fold_norms(model) == (
        ("generator.conv1", "generator.norm1"),
        ("generator.conv2", "generator.norm2"),
    )
    torch.testing.assert_close(model.sample(8, seed=0), wanted, rtol=1e-4, atol=1e-5)


def test_corrected_biases_make_every_layer_s_mean_that_of_the_float_model() -> None:
    model = lively("upsampling")
    made = quantize_model(model, config(bits=3)).model
    whole, items = copy.deepcopy(model), calibration_inputs(model, 32)
    fold_norms(whole)
    assert correct_biases(made, whole, items) == 4
    inputs = next(calls(model.graphs()["generator"], items["generator"], 128))
    means: list[dict[str, Tensor]] = [{}, {}]
    for one, found in zip((whole, made), means, strict=True):
        for name in quantized_layers(made):
            one.get_submodule(name).register_forward_hook(
                lambda m, i, out, found=found, name=name: found.update(
                    {name: out.transpose(0, 1).flatten(1).mean(1)}
                )
            )
        one.graphs()["generator"](*inputs)
    assert len(means[0]) == 4
    for name, mean in means[0].items():
        torch.testing.assert_close(means[1][name], mean, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["weights", pytest.param("dynamic", marks=pytest.mark.slow)])
def test_weights_alone_are_stored_small_and_multiplied_as_floats(mode: str, tmp_path: Path) -> None:
    model = lively("hard")
    settings = (
        {"bits": 4, "granularity": "group", "group": 16, "symmetric": False} if mode == "weights" else {}
    )
    made = quantize_model(model, config(mode=mode, **settings))
    assert all(m.input_quantizer is None for m in quantized_layers(made.model).values())
    path = export_graphs(made.model, tmp_path)["generator"]
    counts = count_quantized(path)
    assert counts["quantized"] == 0
    assert counts["weights"] == counts["total"]
    view = made.model.graphs()["generator"]
    assert max(check_quantized("generator", view, bake(view.module), path).worst.values()) < 1e-4


@pytest.mark.slow
def test_half_precision_weights_take_half_the_bytes(tmp_path: Path) -> None:
    model = lively("hard")
    whole = export_graphs(model, tmp_path / "float")["generator"].stat().st_size
    made = quantize_model(model, config(bits=16, mode="weights")).model
    path = export_graphs(made, tmp_path / "half")["generator"]
    assert path.stat().st_size < 0.6 * whole
    torch.testing.assert_close(made.sample(8, seed=0), model.sample(8, seed=0), rtol=0.02, atol=0.01)


def test_a_file_without_a_quantized_operator_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from niwaki.compression.quantization import step

    monkeypatch.setattr(step, "unquantized", list)  # of every graph
    plan = CompressConfig(steps=(config(),), measure=False)
    with pytest.raises(NiwakiError, match="no operator of the graph 'generator' is quantized"):
        compress(lively("upsampling"), None, plan, workdir=tmp_path, seed=0)


@pytest.mark.slow
def test_the_record_says_what_was_quantized_with_how_many_bits(tmp_path: Path) -> None:
    layers = {"layers.0": {"bits": 4}, "layers.1": "float"}
    plan = CompressConfig(steps=(config(layers=layers),), measure=False)
    record = compress(lively("flow"), None, plan, workdir=tmp_path, seed=0).records[0]
    assert record.quantized == {"inverse": {"Gemm": 6, "quantized": 6, "total": 9}}
    assert record.notes == tuple(f"3 layers with {b}-bit weights and 8-bit inputs" for b in (4, 8))
    assert set(record.skipped) == {f"layers.1.net.{i}" for i in (0, 2, 4)}
    assert record.parameters[0] == record.parameters[1]


def test_what_makes_no_sense_is_refused_beforehand() -> None:
    tune = FinetuneConfig()
    check_order([PruneConfig(), config(), tune])
    with pytest.raises(CallError, match="backend: niwaki"):
        check_order([QuantizeConfig(backend="nncf"), tune])
    with pytest.raises(CallError, match="quantized already"):
        check_order([config(), config()])
    with pytest.raises(CallError, match="quantized already"):
        quantize_model(quantize_model(lively("flow"), config()).model, config())
    for settings, reason in (
        ({"granularity": "group"}, "no engine multiplies integers with a scale per group"),
        ({"symmetric": False}, "affine weights"),
        ({"backend": "nncf", "bits": 4}, "'bits' is said of the backend 'niwaki'"),
        ({"model_type": "transformer"}, "'model_type' is said of the backend 'nncf'"),
        ({"backend": "auto", "preset": "performance", "bits": 4}, "'preset' is said of the backend 'nncf'"),
        ({"layers": {"a": {"granularity": "group"}}}, "for 'a'"),
        ({"batch": 8}, "'batch' is said of the training"),
    ):
        with pytest.raises((CallError, ValidationError), match=reason):
            config(**settings)
    with pytest.raises(NiwakiError, match="no layer to quantize"):
        quantize_model(lively("flow"), config(ignored=("layers",)))


def test_the_backend_is_chosen_by_what_is_asked() -> None:
    assert QuantizeConfig().by == "niwaki"
    assert QuantizeConfig(bits=4).by == "niwaki"
    assert QuantizeConfig(train=10).by == "niwaki"
    assert QuantizeConfig(model_type="transformer").by == "nncf"
    assert SimpleNamespace(**config(bits=16, mode="weights").of("x").model_dump()).bits == 16
