"""From samples to a filter's file, and what it says of others, with no torch at hand."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from niwaki.api.filter import make_filter
from niwaki.core.contract import CallError, NiwakiError
from niwaki.filters import open_filter, screen
from niwaki_runtime.specs import ValueSpec


@pytest.fixture(scope="module")
def digits():
    from niwaki.data import load
    from niwaki.recipe import load_recipe

    return load(load_recipe("digits-gan").data)


@pytest.fixture(scope="module")
def zeros(digits, tmp_path_factory):
    """A filter that withholds zeros, and samples that are new to it: (path, record, x, whether zero)."""
    path = tmp_path_factory.mktemp("filters") / "zeros.filter"
    x, y = digits.train.values().numpy(), digits.train.y.numpy()
    record = make_filter(path, good=x[y != 0], bad=x[y == 0], data=digits, features="random", rate=0.02)
    return path, record, digits.test.values().numpy(), digits.test.y.numpy() == 0


def test_it_catches_what_it_is_for_and_keeps_its_rate(zeros, digits):
    path, record, x, bad = zeros
    found = screen(open_filter(path), x, digits.spec.x)
    assert found.flagged[bad].mean() > 0.8
    low, high = record["calibration"]["interval"]
    n = int((~bad).sum())
    assert found.flagged[~bad].mean() <= high + 3 * np.sqrt(high / n)
    assert record["rates"]["true_positive_interval"][0] < found.flagged[bad].mean() + 0.1
    assert 0 <= low < record["calibration"]["rate"] <= 0.02


def test_what_is_withheld_is_named(zeros, digits):
    path, _, x, _ = zeros
    found = screen(open_filter(path), x, digits.spec.x)
    said = found.to_json(np.arange(len(x)) + 5, seed=3)
    assert [one["index"] - 5 for one in said["flagged"]] == np.flatnonzero(found.flagged).tolist()
    assert all(one["score"] > said["threshold"] and one["seed"] == 3 for one in said["flagged"])
    marked = screen(open_filter(path), x, digits.spec.x, "mark")
    assert marked.passes.all()
    assert np.array_equal(marked.flagged, found.flagged)


def test_a_score_does_not_depend_on_the_others(zeros, digits):
    path, _, x, _ = zeros
    by = open_filter(path)
    together = by.score(x[:70], digits.spec.x)
    alone = np.concatenate([by.score(x[i : i + 1], digits.spec.x) for i in range(5)])
    assert np.array_equal(together[:5], alone)


def test_another_threshold_is_taken_from_the_place(zeros, digits):
    path, _, x, _ = zeros
    assert not screen(open_filter(f"{path},threshold=1"), x, digits.spec.x).flagged.any()
    with pytest.raises(CallError, match="a number 0 … 1"):
        open_filter(f"{path},threshold=2")


def test_the_same_samples_make_the_same_file(zeros, digits, tmp_path):
    path, *_ = zeros
    x, y = digits.train.values().numpy(), digits.train.y.numpy()
    again = tmp_path / "zeros.filter"
    make_filter(again, good=x[y != 0], bad=x[y == 0], data=digits, features="random", rate=0.02)
    assert again.read_bytes() == path.read_bytes()


def test_samples_that_are_not_finite_never_pass(zeros, digits):
    by = open_filter(zeros[0])
    x = np.full((1, 1, 8, 8), np.nan, np.float32)
    assert screen(by, x, digits.spec.x).flagged.all()


def test_other_samples_and_changed_files_are_refused(zeros, digits, tmp_path):
    path, _, x, _ = zeros
    other = ValueSpec("image", (1, 4, 4), "CHW", digits.spec.x.values)
    with pytest.raises(CallError, match="is for image samples of shape"):
        open_filter(path).score(x[:, :, :4, :4], other)
    changed = tmp_path / "changed.filter"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + (b" " if name.endswith(".onnx") else b""))
    with pytest.raises(NiwakiError, match="is not the one it was made with"):
        open_filter(changed)
    with pytest.raises(CallError, match="there is no filter"):
        open_filter(tmp_path / "none.filter")


def test_too_few_samples_are_refused_before_the_work(digits, tmp_path):
    x = digits.train.values().numpy()
    with pytest.raises(CallError, match="needs at least 8 samples of each side"):
        make_filter(tmp_path / "a.filter", good=x[:50], bad=x[:3], data=digits, features="random")
    with pytest.raises(CallError, match="needs at least 99 held-out good samples"):
        make_filter(tmp_path / "a.filter", good=x[:100], bad=x[100:120], data=digits, features="random")
    assert not (tmp_path / "a.filter").exists()


def test_a_filter_runs_without_torch(zeros, digits, tmp_path):
    path, _, x, _ = zeros
    np.save(tmp_path / "x.npy", x[:20])
    code = (
        "import sys, json, numpy as np; sys.modules['torch'] = None\n"
        "from niwaki.filters import open_filter\nfrom niwaki_runtime.specs import ValueSpec\n"
        f"spec = ValueSpec.from_json(json.loads({json.dumps(digits.spec.x.to_json())!r}))\n"
        f"by = open_filter({str(path)!r}); x = np.load({str(tmp_path / 'x.npy')!r})\n"
        "print(json.dumps(by.score(x, spec).tolist()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert np.array_equal(json.loads(out), open_filter(path).score(x[:20], digits.spec.x))
