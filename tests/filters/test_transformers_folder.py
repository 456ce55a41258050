"""A classifier of transformers in a folder is a filter; nothing is downloaded."""

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.filters import open_filter, screen
from niwaki_runtime.specs import ValueSpec

transformers = pytest.importorskip("transformers")
SPEC = ValueSpec("image", (1, 16, 16), "CHW")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("classifier") / "nsfw"
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=16, id2label={0: "fine", 1: "nsfw", 2: "gore"}, label2id={"fine": 0, "nsfw": 1, "gore": 2},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
    return path


def test_the_score_is_the_sum_of_the_labels_probabilities(folder):
    x = np.random.default_rng(0).uniform(-1, 1, (5, 1, 16, 16)).astype(np.float32)
    each = {
        label: open_filter(f"{folder},label={label}").score(x, SPEC) for label in ("fine", "nsfw", "gore")
    }
    np.testing.assert_allclose(sum(each.values()), 1.0, atol=1e-9)
    both = open_filter(f"{folder},label=nsfw,label=gore,threshold=0.3")
    np.testing.assert_allclose(both.score(x, SPEC), each["nsfw"] + each["gore"])
    assert np.array_equal(screen(both, x, SPEC).flagged, each["nsfw"] + each["gore"] > 0.3)


@pytest.mark.parametrize(("settings", "match"), [("", "say which labels"), (",label=nsfv", "nsfw")])
def test_labels_are_to_be_named(folder, settings, match):
    with pytest.raises(CallError, match=match):
        open_filter(f"{folder}{settings}")
