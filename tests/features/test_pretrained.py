from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from features.tiny import clip, dinov2, saved
from features.toys import toy
from torch import Tensor, nn

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import write_tensors
from niwaki.data import Dataset
from niwaki.features import Extractor
from niwaki.features.inception import Inception
from niwaki.features.preprocess import Preprocess, resize
from niwaki.features.pretrained import KINDS, is_pretrained, pretrained_extractor

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("models")
    dinov2(at / "dinov2-tiny")
    clip(at / "clip-tiny")
    with torch.random.fork_rng(devices=[]):
        write_tensors(at / "weights.safetensors", Inception(16).state_dict())
    return {
        "dinov2": at / "dinov2-tiny",
        "clip": at / "clip-tiny",
        "inception": at / "weights.safetensors",
    }


def prepared(dataset: Dataset, x: Tensor, side: int, mean: Any, std: Any) -> Tensor:
    """Step by step: 8 bits, colour, Pillow's bicubic, ImageNet's or CLIP's mean and deviation."""
    grey = torch.from_numpy(dataset.spec.to_uint8(x.numpy()).astype(np.float32)).expand(-1, 3, -1, -1)
    large = resize(grey, (side, side)).clamp(0, 255) / 255
    return (large - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 30)])
def test_dinov2_is_its_class_token(shape: tuple[int, ...], tmp_path: Path) -> None:
    model, dataset = dinov2(tmp_path / "tiny"), toy(shape)
    extractor = pretrained_extractor("dinov2", str(tmp_path / "tiny"), dataset)
    x = dataset.test.values()[:3]
    with torch.inference_mode():
        expected = model(prepared(dataset, x, 224, *IMAGENET)).last_hidden_state[:, 0]
    np.testing.assert_allclose(extractor(x), expected.numpy(), atol=1e-5)
    assert extractor.dim == 12
    assert isinstance(extractor, Extractor)
    assert extractor.name == "dinov2-tiny"


def test_clip_is_its_projected_embedding(tmp_path: Path) -> None:
    model, dataset = clip(tmp_path / "any name"), toy((3, 9, 9))
    extractor = pretrained_extractor("clip", str(tmp_path / "any name"), dataset)
    x = dataset.test.values()[:3]
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.inference_mode():
        expected = model(prepared(dataset, x, 32, mean, std)).image_embeds
    np.testing.assert_allclose(extractor(x), expected.numpy(), atol=1e-5)
    assert extractor.dim == 10
    assert extractor.name == "clip-any-name"


def test_of_a_whole_clip_the_image_tower_is_taken(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 20,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        projection_dim=6,
    )
    model = saved(transformers.CLIPModel, config, tmp_path, 0)
    dataset = toy((3, 16, 16))
    extractor = pretrained_extractor("clip", str(tmp_path), dataset)
    x = dataset.test.values()[:2]
    preprocess = extractor.preprocess
    assert preprocess is not None
    assert preprocess.size == (16, 16)
    with torch.inference_mode():
        seen = model.vision_model(pixel_values=preprocess(x, -1.0, 1.0)).pooler_output
        expected = model.visual_projection(seen)
    np.testing.assert_allclose(extractor(x), expected.numpy(), atol=1e-5)


def test_the_models_own_processor_decides(tmp_path: Path) -> None:
    dinov2(tmp_path)
    dataset = toy((3, 8, 8))
    record = {
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 56, "width": 42},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.1, 0.2, 0.3],
    }

    def read(**changes: Any) -> Preprocess:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({**record, **changes}))
        found = pretrained_extractor("dinov2", str(tmp_path), dataset).preprocess
        assert found is not None
        return found

    assert read() == Preprocess(size=(56, 42), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    assert read(crop_size=28).size == (28, 28)
    assert read(do_normalize=False) == Preprocess(size=(56, 42))
    del record["crop_size"]
    assert read().size == (64, 64)


def test_the_same_is_the_same_and_everything_else_another(
    folders: dict[str, Path], digits: Dataset, tmp_path: Path
) -> None:
    """The fingerprint follows weights, preprocessing and data; not the place, and not the batch."""

    def fingerprint(folder: Path, dataset: Dataset = digits) -> str:
        return pretrained_extractor("dinov2", str(folder), dataset).fingerprint

    first = fingerprint(folders["dinov2"])
    dinov2(tmp_path / "elsewhere")
    assert fingerprint(tmp_path / "elsewhere") == first
    dinov2(tmp_path / "other weights", seed=1)
    dinov2(tmp_path / "other form", num_attention_heads=3)
    dinov2(tmp_path / "other input")
    (tmp_path / "other input" / "preprocessor_config.json").write_text('{"crop_size": 28}')
    others = [fingerprint(tmp_path / f"other {part}") for part in ("weights", "form", "input")]
    others.append(fingerprint(folders["dinov2"], toy((3, 8, 8))))
    assert len({first, *others}) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_digits_pass_through_each_whatever_the_batch(
    kind: str, folders: dict[str, Path], digits: Dataset
) -> None:
    extractor = pretrained_extractor(kind, str(folders[kind]), digits)
    x = digits.test.values()[:7]
    z = extractor(x)
    assert z.shape == (7, extractor.dim)
    size = np.abs(z).max()
    np.testing.assert_allclose(extractor(x, batch=3), z, atol=1e-5 * size)
    np.testing.assert_array_equal(extractor(x * 1.7), extractor((x * 1.7).clamp(-1, 1)))
    assert z.std(0).max() > 1e-3 * size


def test_splits_are_kept_by_content(folders: dict[str, Path], tmp_path: Path) -> None:
    dataset = toy((1, 8, 8))
    extractor = pretrained_extractor("clip", str(folders["clip"]), dataset, cache=tmp_path)
    z = extractor.of_split(dataset, "test")
    (file,) = (tmp_path / "features").iterdir()
    assert file.name.startswith("clip-tiny-test-")
    again = pretrained_extractor("clip", str(folders["clip"]), dataset, cache=tmp_path)
    again.network = nn.Flatten()  # would give something else if it were asked
    np.testing.assert_array_equal(again.of_split(dataset, "test"), z)


def test_wrong_data_is_refused(folders: dict[str, Path]) -> None:
    for kind, source in folders.items():
        with pytest.raises(CallError, match="look at images"):
            pretrained_extractor(kind, str(source), toy((2, 64)))
        with pytest.raises(CallError, match="have 2 channels"):
            pretrained_extractor(kind, str(source), toy((2, 8, 8)))
    extractor = pretrained_extractor("clip", str(folders["clip"]), toy((1, 8, 8)))
    with pytest.raises(CallError, match="shape"):
        extractor(np.zeros((3, 1, 9, 9), np.float32))
    with pytest.raises(CallError, match="NaN"):
        extractor(np.full((3, 1, 8, 8), np.nan, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_pickles_are_refused(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CallError, match="a pickle can run any program when it is read; convert it once"):
        pretrained_extractor(kind, str(path), toy((1, 8, 8)))


def test_the_remedy_for_a_pickle_works(tmp_path: Path) -> None:
    """The program in the refusal, run as it stands."""
    model, dataset = dinov2(tmp_path), toy((1, 8, 8))
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CallError, match="pickled weights") as caught:
        pretrained_extractor("dinov2", str(tmp_path), dataset)
    _, program = str(caught.value).removesuffix('"').split('python -c "')
    subprocess.run([sys.executable, "-c", program], check=True)
    extractor = pretrained_extractor("dinov2", str(tmp_path), dataset)
    assert extractor(dataset.test.values()[:2]).shape == (2, 12)


def test_a_pickle_beside_safetensors_is_not_touched(tmp_path: Path) -> None:
    dinov2(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert pretrained_extractor("dinov2", str(tmp_path), toy((1, 8, 8))).dim == 12


def test_another_or_an_incomplete_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    dataset = toy((1, 8, 8))
    with pytest.raises(CallError, match="of the type 'dinov2', not clip or clip_vision_model"):
        pretrained_extractor("clip", str(folders["dinov2"]), dataset)
    model = dinov2(tmp_path / "a")
    some = {k: v for k, v in model.state_dict().items() if k != "layernorm.weight"}
    write_tensors(tmp_path / "a" / "model.safetensors", some, {"format": "pt"})
    with pytest.raises(NiwakiError, match=r"lacks 1 weights of dinov2, 'layernorm.weight' among them"):
        pretrained_extractor("dinov2", str(tmp_path / "a"), dataset)
    (tmp_path / "a" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(NiwakiError, match="could not be loaded as dinov2"):
        pretrained_extractor("dinov2", str(tmp_path / "a"), dataset)
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(NiwakiError, match=r"model\.safetensors is missing"):
        pretrained_extractor("dinov2", str(tmp_path / "a"), dataset)


def test_names_and_places_that_are_not_there(tmp_path: Path) -> None:
    dataset = toy((1, 8, 8))
    with pytest.raises(CallError, match="did you mean 'dinov2'"):
        pretrained_extractor("dinov3", "x", dataset)
    with pytest.raises(CallError, match=r"'inception:/path/weights\.safetensors'"):
        pretrained_extractor("inception", "", dataset)
    with pytest.raises(CallError, match="there is no folder"):
        pretrained_extractor("dinov2", str(tmp_path / "nothing"), dataset)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CallError, match="is a file; name the folder"):
        pretrained_extractor("clip", str(tmp_path / "model.safetensors"), dataset)
    assert is_pretrained("clip:openai/clip-vit-base-patch32")
    assert is_pretrained("inception")
    assert not is_pretrained("random")


def test_a_hub_name_without_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)  # read when the package was imported
    with pytest.raises(NiwakiError, match="could not be had from the hub: there is no network") as caught:
        pretrained_extractor("dinov2", "nobody/no-such-model", toy((1, 8, 8)))
    assert "\n" not in str(caught.value)
    assert "hf download nobody/no-such-model" in str(caught.value)


def test_from_the_hub_come_no_pickles(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, list[str]]] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folders["clip"])

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    extractor = pretrained_extractor("clip", "openai/clip-vit-base-patch32", toy((1, 8, 8)))
    assert extractor.name == "clip-vit-base-patch32"
    ((name, patterns),) = asked
    assert name == "openai/clip-vit-base-patch32"
    files = [
        "model.safetensors",
        "config.json",
        "pytorch_model.bin",
        "modeling.py",
        "open_clip_model.safetensors",
    ]
    assert list(hub.utils.filter_repo_objects(files, allow_patterns=patterns)) == files[:2]


def test_without_transformers_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CallError, match=r"pip install 'niwaki\[hub\]'"):
        pretrained_extractor("dinov2", str(folders["dinov2"]), toy((1, 8, 8)))
