from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from niwaki.core.contract import CallError, DataSpec
from niwaki.recipe import check_data, dump_recipe, find_recipe, load_recipe, recipe_from

TINY = {
    "name": "tiny",
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 8},
    "train": {"steps": 5, "batch": 16},
    "compress": {"steps": [{"kind": "prune", "ratio": 0.5}, {"kind": "quantize"}]},
}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.yaml", yaml.safe_dump({k: v for k, v in TINY.items() if k != "name"}))


def test_the_resolved_recipe_reads_back_the_same(tiny: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny, ["train.lr={generator: 1e-4, discriminator: 3e-4}"])
    again = load_recipe(write(tmp_path / "resolved.yaml", dump_recipe(recipe)))
    assert again == recipe
    assert recipe.name == "tiny", "the file's name is the run's name"
    assert "schedule" in yaml.safe_load(dump_recipe(recipe))["train"], "defaults are written out"
    assert "latent" in recipe.model, "the model's defaults too"


def test_the_own_recipes_are_found_by_name_and_are_whole() -> None:
    shelf = Path(__file__).parents[2] / "recipes"
    files = sorted(shelf.glob("*.yaml"))
    assert files
    for file in files:
        assert find_recipe(file.stem).resolve() == file
        if "folder" not in file.stem:
            load_recipe(file.stem)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.stepz=5", "the recipe has no setting 'train.stepz'; did you mean 'steps'?"),
        ("trian.steps=5", "the recipe has no setting 'trian'; did you mean 'train'?"),
        ("checkpoint_every=5", "no setting 'checkpoint_every'; did you mean 'train.checkpoint_every'?"),
        ("train.steps=many", "'train.steps' must be a whole number, not 'many'"),
        ("train.steps=1.5", "'train.steps' must be a whole number, not 1.5"),
        ("train.steps=0", "'train.steps' must be greater than 0, not 0"),
        ("train.steps=null", "'train.steps' must be a whole number, not null"),
        ("train.ema=1.5", "'train.ema' must be less than 1, not 1.5"),
        ("train.schedule=cosin", "there is no schedule 'cosin'; did you mean 'cosine'?"),
        ("train.lr=fast", "'train.lr' must be a number or a mapping of settings, not 'fast'"),
        ("train.lr={generator: fast}", "'train.lr.generator' must be a number, not 'fast'"),
        ("train.batch=7 ", None),
        ("train=5", "'train' must be a section of settings, not 5"),
        ("train.stages=[{name: a}]", "the recipe must set 'train.stages.0.steps'"),
        ("train.stages=[{name: a, steps: 2, frezee: [x]}]",
         "the stage 'a' has no setting 'frezee'; did you mean 'freeze'?"),
        ("data.source=dgits", "there is no data source 'dgits'; did you mean 'digits'?"),
        ("data.sizes=8", "'sizes'"),
        ("model.name=dcgam", "there is no model 'dcgam'; did you mean 'dcgan'?"),
        ("model.name=null", "'model.name'"),
        ("model.widht=8", "the model 'dcgan' has no setting 'widht'; did you mean 'width'?"),
        ("model.width=wide", "model.width"),
        ("compress.steps.0.ratoi=0.1", "no setting 'compress.steps.0.ratoi'; did you mean 'ratio'?"),
        ("compress.steps.0.ratio=2", "'compress.steps.0.ratio' must be less than 1, not 2"),
        ("compress.steps.0.kind=prun", "'compress.steps.0.kind' cannot be 'prun'; did you mean 'prune'?"),
        ("compress.steps=[]", "'compress.steps' must be a list of at least 1, not []"),
        ("compress.steps=[{kind: quantize}, {kind: prune}]", "'quantize' has measured; put it before"),
        ("compress.steps=[{ratio: 0.5}]", "the recipe must set 'compress.steps.0.kind'"),
        ("export.engine=onnx", "'export.engine' cannot be 'onnx'; did you mean 'onnxruntime'?"),
        ("export.batches=[0]", "'export.batches': must be batch sizes of at least 1"),
        ("name=../up", "'name' must be letters, digits, '.', '_' and '-', not '../up'"),
        ("seed=-1", "'seed' must be at least 0, not -1"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_one_sentence_with_the_key_and_the_nearest_name(
    tiny: Path, override: str, sentence: str | None
) -> None:
    if sentence is None:
        load_recipe(tiny, [override])
        return
    with pytest.raises(CallError) as error:
        load_recipe(tiny, [override])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_section_is_named() -> None:
    with pytest.raises(CallError, match="the recipe has no 'train' section"):
        recipe_from({k: v for k, v in TINY.items() if k != "train"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"name": "ddpm", "guidance": 2.0, "conditional": False},
            "'model.sampling.guidance' needs a condition to guide by",
        ),
        ({"name": "ddpm", "guidance": 2.0, "label_drop": 0.0}, "set 'model.conditioning.drop' above 0"),
    ],
)
def test_guidance_needs_something_to_guide_by(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(CallError) as error:
        recipe_from({**TINY, "model": changes})
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ({"name": "dcgan", "conditional": True}, "model.conditioning"),
        ({"name": "ddpm", "guidance": 2.0}, "model.sampling.guidance"),
    ],
)
def test_a_conditional_model_needs_labels(model: dict[str, object], key: str) -> None:
    recipe = recipe_from({**TINY, "model": model})
    check_data(recipe, DataSpec.of("image", (1, 8, 8), classes=10))
    with pytest.raises(CallError) as error:
        check_data(recipe, DataSpec.of("image", (1, 8, 8)))
    assert f"'{key}'" in str(error.value)
    assert "the data of source 'digits' have" in str(error.value)


def test_files_that_are_no_recipes_are_said(tmp_path: Path) -> None:
    write(tmp_path / "digits-gan.yaml", "a: 1")
    for path, sentence in [
        (tmp_path / "digits-gann.yaml", "did you mean 'digits-gan.yaml'?"),
        (write(tmp_path / "list.yaml", "- 1\n"), "must hold sections such as"),
        (write(tmp_path / "broken.yaml", "a: [1\n"), "this is not YAML"),
        (write(tmp_path / "twice.yaml", "seed: 1\nseed: 2\n"), "line 2: the key 'seed' stands twice"),
        (tmp_path, "neither a recipe nor a run"),
        ("digits-gam", "there is no recipe 'digits-gam'; did you mean 'digits-gan'?"),
    ]:
        with pytest.raises(CallError) as error:
            load_recipe(path)
        assert sentence in str(error.value)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CallError, match="is not UTF-8 text"):
        load_recipe(tmp_path / "bytes.yaml")


def test_a_relative_data_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own.yaml", yaml.safe_dump({**TINY, "data": {"source": "folder", "path": "pictures"}}))
    assert load_recipe("own.yaml").data.path == str(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=true", "'train.steps' must be a whole number, not true"),
        ("train.betas=[true, 0.9]", "'train.betas' must be a number, not true"),
        ("train.batch=yes", "'train.batch' must be a whole number, not 'yes'"),
        ("train.lr=no", "'train.lr' must be a number or a mapping of settings, not 'no'"),
        ("train.lr=.inf", "'train.lr' must be finite, not inf"),
        ("train.lr=-1", "'train.lr' must be at least 0, not -1"),
        ("train.betas=[1.5, 0.9]", "'train.betas.0' must be less than 1, not 1.5"),
        ("train.ema=.nan", "'train.ema' must be "),
        ("train.clip=.inf", "'train.clip' must be finite, not inf"),
        ("evaluate.n=false", "'evaluate.n' must be a whole number, not false"),
        ("data.seed=true", "'data.seed' must be a whole number, not true"),
        ("compress.steps=[{kind: prune, ratio: true}]", "must be a number, not true"),
        ("compress.steps=[{kind: prune, ratio: .nan}]", "must be"),
    ],
)
def test_what_is_no_number_is_refused_where_one_belongs(override: str, message: str) -> None:
    with pytest.raises(CallError, match=re.escape(message)):
        load_recipe("digits-gan", [override])
