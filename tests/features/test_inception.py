from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from features.toys import toy
from torch import Tensor, nn

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import write_tensors
from niwaki.features.inception import INCEPTION_INPUT, Inception, load_inception
from niwaki.features.pretrained import InceptionExtractor, pretrained_extractor

SMALL = 16


def drawn(divisor: int = SMALL, seed: int = 0) -> Inception:
    """Random weights through which a signal neither fades nor grows, statistics that are not 0 and 1."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        network = Inception(divisor)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.normal_(0, math.sqrt(2 / part.weight[0].numel()), generator=rng)
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                for values, middle in ((part.weight, 1.0), (part.running_var, 1.0)):
                    values.uniform_(middle - 0.2, middle + 0.2, generator=rng)
                for values in (part.bias, part.running_mean):
                    values.normal_(0, 0.1, generator=rng)
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_tensors(path, drawn().state_dict())
    return path


def test_size_of_the_network() -> None:
    """21 785 568 in its features: Keras counts 21 768 352 in its Inception-v3 without top, whose 17 216
    channels have no learned scale; and 1008 outputs of 2048 features with a bias."""
    with torch.device("meta"):
        network = Inception()
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    head = sum(n for name, n in sizes.items() if name.startswith("fc."))
    assert head == 1008 * 2048 + 1008
    assert sum(sizes.values()) - head == 21_768_352 + 17_216
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 94
    assert sum(c.out_channels for c in convolutions) == 17_216
    assert network.dim == 2048


def test_parameters_are_named_as_in_the_published_weights() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Inception().state_dict().items()}
    assert len(shapes) == 94 * 6 + 2
    known = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_1a_3x3.bn.running_var": (32,),
        "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
        "Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5c.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6a.branch3x3dbl_1.bn.bias": (64,),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch3x3_2.conv.weight": (320, 192, 3, 3),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7b.branch3x3_2b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
        "Mixed_7c.branch_pool.bn.num_batches_tracked": (),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }
    assert known.items() <= shapes.items()


def slow_pool(x: np.ndarray, kind: str, stride: int, border: int) -> np.ndarray:
    """3×3, window by window, over the pixels that exist."""
    c, h, w = x.shape
    rows = range(-border, h - 2 + border, stride)
    columns = range(-border, w - 2 + border, stride)
    out = np.zeros((c, len(rows), len(columns)), np.float32)
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            window = x[:, max(i, 0) : i + 3, max(j, 0) : j + 3]
            out[:, a, b] = window.mean((1, 2)) if kind == "average" else window.max((1, 2))
    return out


def watched(network: Inception, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What every part is given, and what it makes of it."""
    given: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            given[name], made[name] = inputs[0], output

        network.get_submodule(name).register_forward_hook(hook)

    for name, _ in network.named_modules():
        if name:
            keep(name)
    with torch.inference_mode():
        made[""] = network(x)
    return given, made


@pytest.fixture(scope="module")
def seen() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return watched(drawn(), torch.randn(1, 3, 299, 299, generator=torch.Generator().manual_seed(1)))


def test_maps_have_the_papers_sizes(seen: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
    _, made = seen
    sizes = {
        "Conv2d_1a_3x3": (32, 149),
        "Conv2d_2a_3x3": (32, 147),
        "Conv2d_2b_3x3": (64, 147),
        "Conv2d_3b_1x1": (80, 73),
        "Conv2d_4a_3x3": (192, 71),
        "Mixed_5b": (256, 35),
        "Mixed_5c": (288, 35),
        "Mixed_5d": (288, 35),
        **{f"Mixed_6{letter}": (768, 17) for letter in "abcde"},
        "Mixed_7a": (1280, 8),
        "Mixed_7b": (2048, 8),
        "Mixed_7c": (2048, 8),
    }
    for name, (channels, side) in sizes.items():
        assert tuple(made[name].shape) == (1, channels // SMALL, side, side)
    torch.testing.assert_close(made[""], made["Mixed_7c"].mean((2, 3)))


@pytest.mark.parametrize(
    "block", ["Mixed_5b", "Mixed_5d", "Mixed_6b", "Mixed_6e", "Mixed_7b", "Mixed_7c", "Mixed_6a", "Mixed_7a"]
)
def test_pools_as_in_the_graph_of_2015(seen: tuple[dict[str, Tensor], dict[str, Tensor]], block: str) -> None:
    """Averages leave the padding out, the last block takes a maximum, reductions halve."""
    given, made = seen
    x = given[block][0].numpy()
    if block in ("Mixed_6a", "Mixed_7a"):
        pooled = slow_pool(x, "maximum", 2, 0)
        np.testing.assert_allclose(made[block][0, -len(x) :].numpy(), pooled, rtol=1e-6)
    else:
        kind = "maximum" if block == "Mixed_7c" else "average"
        pooled = slow_pool(x, kind, 1, 1)
        np.testing.assert_allclose(given[f"{block}.branch_pool"][0].numpy(), pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "block, ends",
    [
        ("Mixed_5c", ["1x1", "5x5_2", "3x3dbl_3", "_pool"]),
        ("Mixed_6a", ["3x3", "3x3dbl_3"]),
        ("Mixed_6d", ["1x1", "7x7_3", "7x7dbl_5", "_pool"]),
        ("Mixed_7a", ["3x3_2", "7x7x3_4"]),
        ("Mixed_7b", ["1x1", "3x3_2a", "3x3_2b", "3x3dbl_3a", "3x3dbl_3b", "_pool"]),
    ],
)
def test_branches_stand_in_the_published_order(
    seen: tuple[dict[str, Tensor], dict[str, Tensor]], block: str, ends: list[str]
) -> None:
    _, made = seen
    joined = torch.cat([made[f"{block}.branch{end}"] for end in ends], 1)
    torch.testing.assert_close(made[block][:, : joined.shape[1]], joined, rtol=0, atol=0)


def test_a_convolution_is_normalised_with_the_graphs_epsilon() -> None:
    part = drawn().Conv2d_1a_3x3
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        raw = nn.functional.conv2d(x, part.conv.weight, stride=2)
        mean, variance = part.bn.running_mean, part.bn.running_var
        assert mean is not None
        assert variance is not None
        scale = part.bn.weight / (variance + 1e-3).sqrt()
        expected = ((raw - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + part.bn.bias.view(-1, 1, 1)).clamp(0)
        torch.testing.assert_close(part(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 10)])
def test_the_extractor_from_a_file(shape: tuple[int, ...], weights: Path) -> None:
    dataset = toy(shape)
    extractor = pretrained_extractor("inception", str(weights), dataset)
    assert isinstance(extractor, InceptionExtractor)
    assert extractor.name == "inception-small"
    x = dataset.test.values()[:3]
    z = extractor(x)
    assert z.shape == (3, extractor.dim) == (3, 128)
    assert z.dtype == np.float32
    network = drawn()
    with torch.inference_mode():  # (x − 128) / 128 of 8 bits
        grey = torch.from_numpy(dataset.spec.to_uint8(x.numpy()).astype(np.float32)).expand(-1, 3, -1, -1)
        large = INCEPTION_INPUT(grey, 0.0, 255.0)
        expected = network(large)
        logits = expected @ network.fc.weight.T
    assert float(large.min()) >= -1
    assert float(large.max()) <= 127 / 128
    np.testing.assert_allclose(z, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(extractor.probabilities(x), logits.softmax(1).numpy(), atol=1e-6)
    assert np.abs(z[0] - z[1]).max() > 1e-3


def test_weights_without_counters_and_in_half_precision_load(weights: Path, tmp_path: Path) -> None:
    """Older files lack `num_batches_tracked`, which nothing uses."""
    tensors = drawn().state_dict()
    older = {k: v.half() for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    write_tensors(tmp_path / "older.safetensors", older)
    network = load_inception(str(tmp_path / "older.safetensors")).network
    for name, p in network.named_parameters():
        assert p.dtype == torch.float32
        torch.testing.assert_close(p, tensors[name], atol=1e-3, rtol=1e-3)


def test_loading_draws_no_random_numbers(weights: Path) -> None:
    before = torch.get_rng_state()
    load_inception(str(weights))
    assert torch.equal(before, torch.get_rng_state())


def test_other_weights_are_refused(tmp_path: Path, weights: Path) -> None:
    tensors = drawn().state_dict()
    write_tensors(tmp_path / "few.safetensors", {k: v for k, v in tensors.items() if "Mixed_7c" not in k})
    with pytest.raises(NiwakiError, match=r"FID's Inception-v3: 45 are .*, 'Mixed_7c\.branch1x1"):
        load_inception(str(tmp_path / "few.safetensors"))
    theirs = {**tensors, "fc.weight": torch.zeros(1000, 128), "fc.bias": torch.zeros(1000)}
    write_tensors(tmp_path / "torchvision.safetensors", theirs)
    with pytest.raises(NiwakiError, match="torchvision's Inception"):
        load_inception(str(tmp_path / "torchvision.safetensors"))
    with pytest.raises(NiwakiError, match="does not exist"):
        load_inception(str(tmp_path / "none.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(NiwakiError, match="not a whole safetensors file"):
        load_inception(str(tmp_path / "broken.safetensors"))
    with pytest.raises(CallError, match="is a folder; name the safetensors file"):
        load_inception(str(tmp_path))
    with pytest.raises(CallError, match="1, 2, 4, 8 or 16, not by 3"):
        Inception(3)


@pytest.mark.slow
def test_at_full_width_equal_to_torch_fidelity(tmp_path: Path) -> None:
    """Equal weights and equal 8-bit pictures give equal features, from resize to pool."""
    try:
        theirs = import_module("torch_fidelity.feature_extractor_inceptionv3")
    except Exception as error:  # a torchvision made for another torch fails with more than ImportError
        pytest.skip(f"torch-fidelity and its torchvision do not import here: {error}")
    network = drawn(divisor=1)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    write_tensors(tmp_path / "weights.safetensors", network.state_dict())
    reference = theirs.FeatureExtractorInceptionV3(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(tmp_path / "weights.pth"),
    )
    dataset = toy((3, 40, 31))
    extractor = pretrained_extractor(
        "inception", str(tmp_path / "weights.safetensors"), dataset, device="cpu"
    )
    assert isinstance(extractor, InceptionExtractor)
    x = dataset.test.values()[:2].numpy()
    with torch.inference_mode():
        features, logits = reference(torch.from_numpy(dataset.spec.to_uint8(x)))
    np.testing.assert_allclose(extractor(x), features.numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(extractor.probabilities(x), logits.softmax(1).numpy(), atol=1e-6)
