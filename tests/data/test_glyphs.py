"""Glyphs: the right fonts, drawn rightly, jittered as said, and a family kept out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, cache_directory, load
from niwaki.data.reading.drawn_characters import FILL, render
from niwaki.data.reading.fonts import CHARACTERS, FAMILIES, distance_fields, font_file
from niwaki.data.sources.glyphs import GlyphsOptions, caption_of, jitters, two_styles
from niwaki.data.splitting import hash_samples, shares
from niwaki_runtime.tokenizer import Tokenizer

PLAIN = np.zeros((62, 5))
SIZE = 32


@pytest.fixture(scope="module")
def serif() -> Tensor:
    return torch.from_numpy(distance_fields(["DejaVuSerif.ttf"])[0])


def drawn(fields: Tensor, **jitter: float) -> np.ndarray:
    """All characters with one departure from the plain drawing, in levels `(62, 32, 32)`."""
    columns = {"right": 0, "down": 1, "slant": 2, "log_size": 3, "weight": 4}
    values = PLAIN.copy()
    for key, value in jitter.items():
        values[:, columns[key]] = value
    return render(fields, np.arange(62), values, SIZE)[:, 0].numpy().astype(float)


def test_every_font_has_every_character() -> None:
    for family in FAMILIES.values():
        for file in family.values():
            table = FT2Font(str(font_file(file))).get_charmap()
            indices = [table[ord(c)] for c in CHARACTERS if ord(c) in table]
            assert len(set(indices)) == 62, file
    assert len(set(CHARACTERS)) == 62


def test_a_plain_glyph_looks_as_the_font_engine_draws_it(serif: Tensor) -> None:
    """Against FreeType at eight times the size, averaged down: the slow and obvious way to antialias."""
    em, line = SIZE * FILL, SIZE * (0.5 + FILL * (88 - 64) / 84)
    font = ImageFont.truetype(str(font_file("DejaVuSerif.ttf")), em * 8, layout_engine=ImageFont.Layout.BASIC)
    ours = drawn(serif)
    for i, character in enumerate(CHARACTERS):
        picture = Image.new("L", (SIZE * 8, SIZE * 8))
        left, _, right, _ = font.getbbox(character, anchor="ls")
        place = ((SIZE * 8 - left - right) / 2, line * 8)
        ImageDraw.Draw(picture).text(place, character, font=font, fill=255, anchor="ls")
        exact = np.asarray(picture.reduce(8), dtype=float)
        assert np.abs(ours[i] - exact).mean() < 0.12 * exact.mean(), character
        assert np.corrcoef(ours[i].ravel(), exact.ravel())[0, 1] > 0.99, character


def test_place_moves_by_whole_pixels(serif: Tensor) -> None:
    plain = drawn(serif)
    moved = drawn(serif, right=2 / SIZE, down=-1 / SIZE)
    assert np.abs(moved - np.roll(plain, (-1, 2), (1, 2))).max() <= 2  # levels of 255: float rounding


def test_weight_adds_ink_everywhere(serif: Tensor) -> None:
    light, plain, heavy = drawn(serif, weight=-0.003), drawn(serif), drawn(serif, weight=0.015)
    assert ((heavy >= plain) & (plain >= light)).all()
    assert heavy.sum() > 1.1 * plain.sum() > 1.1 * light.sum()


def test_size_scales_the_ink_quadratically(serif: Tensor) -> None:
    ratio = drawn(serif, log_size=0.08).sum((1, 2)) / drawn(serif).sum((1, 2))
    assert np.abs(ratio - np.exp(2 * 0.08)).max() < 0.06


def test_slant_shears_to_the_right(serif: Tensor) -> None:
    """A shear moves the top against the bottom: cov(x, height) of the ink changes by slant · var(height)."""
    v, u = np.mgrid[:SIZE, :SIZE]

    def moments(image: np.ndarray) -> tuple[float, float]:
        w = image / image.sum()
        x, up = u - (w * u).sum(), (w * v).sum() - v
        return float((w * x * up).sum()), float((w * up * up).sum())

    for plain, slanted in zip(drawn(serif), drawn(serif, slant=0.12), strict=True):
        before, height = moments(plain)
        after, _ = moments(slanted)
        assert after - before == pytest.approx(0.12 * height, rel=0.1, abs=0.15)


def test_jitters_have_their_ranges_and_streams() -> None:
    a = jitters(4000, 1.0, seed=0, stream=0)
    assert np.abs(a).max(0) == pytest.approx([0.04, 0.04, 0.12, 0.08, 0.015], rel=0.01)
    assert a[:, 4].min() == pytest.approx(-0.003, rel=0.05)
    assert abs(np.corrcoef(a.T)[np.triu_indices(5, 1)]).max() < 4 / np.sqrt(4000)
    assert np.array_equal(a, jitters(4000, 1.0, seed=0, stream=0))
    b = jitters(4000, 1.0, seed=0, stream=1)
    assert abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) < 4 / np.sqrt(4000)
    assert not jitters(5, 0.0, seed=0, stream=0).any()


def test_splits_hold_all_characters_in_all_fonts(glyphs: Dataset) -> None:
    names = glyphs.attribute_names["font"]
    assert names[-4:] == tuple(FAMILIES["STIX"])
    for split in (glyphs.train, glyphs.validation, glyphs.test):
        assert split.y is not None
        pairs = set(zip(split.y.tolist(), split.attributes["font"].tolist(), strict=True))
        assert pairs == {(c, f) for c in range(62) for f in range(17)}
    ood = glyphs.extra["ood"]
    assert {names[f] for f in ood.attributes["font"].tolist()} == set(FAMILIES["STIX"])
    assert ood.y is not None
    assert set(ood.y.tolist()) == set(range(62))


def test_nothing_is_shared_between_splits(glyphs: Dataset) -> None:
    sets = [set(hash_samples(s.x)) for s in glyphs.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_labels_name_what_is_drawn(glyphs: Dataset) -> None:
    """An image is closest to the plain drawing of its own class in its own font, for nearly all."""
    font = glyphs.attribute_names["font"].index("DejaVu Serif")
    chosen = glyphs.test.select(glyphs.test.attributes["font"] == font)
    assert chosen.y is not None
    plain = drawn(torch.from_numpy(distance_fields(["DejaVuSerif.ttf"])[0])).reshape(62, -1)
    shown = chosen.x.flatten(1).numpy().astype(float)
    scores = (shown @ plain.T) / np.linalg.norm(shown, axis=1)[:, None] / np.linalg.norm(plain, axis=1)
    assert (scores.argsort(1)[:, -3:] == chosen.y.numpy()[:, None]).any(1).mean() > 0.75


def test_glyphs_are_whole_and_never_blank(glyphs: Dataset) -> None:
    for split in glyphs.splits.values():
        edge = torch.cat([split.x[:, 0, 0], split.x[:, 0, -1], split.x[:, 0, :, 0], split.x[:, 0, :, -1]], 1)
        assert (edge.amax(1) > 64).float().mean() < 0.005
        assert split.x.flatten(1).amax(1).min() > 127


def test_the_default_has_at_least_twenty_thousand() -> None:
    fonts = sum(map(len, FAMILIES.values())) - len(FAMILIES["STIX"])
    parts = shares(GlyphsOptions().variants, DataConfig(source="glyphs").fractions)
    assert fonts * 62 * parts[0] > 20_000


@pytest.mark.slow
def test_any_family_can_be_held_out(glyphs: Dataset) -> None:
    other = load(DataConfig(source="glyphs", variants=3, held_out="Computer Modern", size=16))
    assert other.spec.shape == (1, 16, 16)
    assert len(other.extra["ood"]) == 5 * 62
    with pytest.raises(CallError, match="no font family 'STYX'; did you mean 'STIX'"):
        load(DataConfig(source="glyphs", held_out="STYX"))


def test_the_cache_gives_what_was_drawn(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(files: object) -> None:
        raise AssertionError("drawn again although cached")

    monkeypatch.setattr("niwaki.data.sources.glyphs.distance_fields", refuse)
    assert load(DataConfig(source="glyphs", variants=3)).fingerprint == glyphs.fingerprint


@pytest.fixture
def two_fonts(monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    few = {"DejaVu Sans": {"DejaVu Sans": "DejaVuSans.ttf"}, "STIX": {"STIX": "STIXGeneral.ttf"}}
    monkeypatch.setattr("niwaki.data.sources.glyphs.FAMILIES", few)
    return DataConfig(source="glyphs", variants=3, size=8)


def test_a_damaged_cache_is_made_again(
    two_fonts: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path))
    config = two_fonts
    first = load(config)
    (file,) = (cache_directory() / "data").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    again = load(config)
    assert again.fingerprint == first.fingerprint
    assert "made again" in again.audit.of_kind("cache")[0].text
    assert load(config).audit.of_kind("cache") == ()


def test_a_cache_that_cannot_be_written_is_a_note(
    two_fonts: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "file"))
    dataset = load(two_fonts)
    assert "as slow" in dataset.audit.of_kind("cache")[0].text


def test_captions_say_style_and_character() -> None:
    assert caption_of("DejaVu Serif Bold", "A") == "bold serif letter A"
    assert caption_of("DejaVu Sans Mono Bold Oblique", "7") == "bold italic mono figure 7"
    assert caption_of("Computer Modern Roman", "q") == "serif letter q"
    assert caption_of("Computer Modern Sans", "q") == "sans letter q"
    fonts = [name for family in FAMILIES.values() for name in family]
    assert len({caption_of(f, c) for f in fonts for c in CHARACTERS}) == 12 * 62


@pytest.fixture(scope="module")
def captioned() -> Dataset:
    return load(DataConfig(source="glyphs", captions=True, variants=3, size=8))


@pytest.fixture(scope="module")
def two_domains() -> Dataset:
    return load(DataConfig(source="glyphs", domains="weight", variants=3, size=16, jitter=0.1))


@pytest.mark.slow
def test_a_caption_is_in_one_split_and_its_tokens_are_its_words(captioned: Dataset) -> None:
    dataset = captioned
    tokenizer = Tokenizer(dataset.files["tokenizer.json"])
    fonts, texts = dataset.attribute_names["font"], {}
    for name in ("train", "validation", "test"):
        split = dataset.split(name)
        rows = split.columns["caption"].data
        pairs = zip(split.attributes["font"].tolist(), split.y.tolist(), strict=True)
        expected = [caption_of(fonts[f], CHARACTERS[c]) for f, c in pairs]
        assert [tokenizer.decode(row) for row in rows[:200]] == expected[:200]
        first = rows[0][rows[0] != 0].tolist()
        assert tokenizer.encode(expected[0]) == first
        texts[name] = set(expected)
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert {t.split()[-1] for t in texts["train"]} == set(CHARACTERS), "every character is known"
    assert {" ".join(t.split()[:-2]) for t in texts["train"]} >= {
        " ".join(t.split()[:-2]) for t in texts["test"]
    }, "every style is known"
    assert 0.1 < len(texts["test"]) / (12 * 62) < 0.3
    assert len(dataset.extra["ood"]) == 4 * 62  # one drawing of every character in every font kept out


def test_the_sides_of_a_style_are_fonts_that_have_a_sibling() -> None:
    fonts = [name for family in FAMILIES.values() for name in family]
    a, b = two_styles(fonts, "weight")
    assert len(a) == len(b) == 9
    assert all("Bold" not in f for f in a)
    assert all("Bold" in f for f in b)
    assert two_styles(["Computer Modern Roman", "Computer Modern Italic", "DejaVu Sans"], "slant") == (
        ("Computer Modern Roman",),
        ("Computer Modern Italic",),
    )


@pytest.mark.slow
def test_domains_are_two_columns_without_pairs(two_domains: Dataset) -> None:
    dataset = two_domains
    assert dataset.spec.unpaired == ("x_b", "class_b")
    rows = {k: dataset.train.columns[k].data for k in ("x", "class", "x_b", "class_b")}
    assert len(rows["x"]) == len(rows["class"]) == 7 * 62  # the family that is kept out has two more
    assert rows["x_b"].float().mean() > 1.3 * rows["x"].float().mean(), "more ink"
    hashes = [hash_samples(dataset.split(s).columns["x_b"].data) for s in ("train", "validation", "test")]
    assert len({h for part in hashes for h in part}) == sum(map(len, hashes)), "no sample is shared"
    assert not torch.equal(rows["class"], rows["class_b"])


@pytest.mark.slow
def test_an_unpaired_image_has_the_class_that_it_says(two_domains: Dataset) -> None:
    """Those that look like the drawing of one bold font are drawings of the same character."""
    fields = torch.from_numpy(distance_fields([FAMILIES["DejaVu Serif"]["DejaVu Serif Bold"]])[0])
    plain = render(fields, np.arange(62), PLAIN, 16).flatten(1).float()
    x, y = (two_domains.train.columns[k].data for k in ("x_b", "class_b"))
    distance, nearest = torch.cdist(x.flatten(1).float(), plain).min(1)
    alike = distance < 0.15 * plain.norm(dim=1).mean()
    assert int(alike.sum()) >= 40
    assert torch.equal(nearest[alike], y[alike])


def test_captions_and_domains_together_are_refused() -> None:
    with pytest.raises(CallError, match="not had together"):
        DataConfig(source="glyphs", captions=True, domains="weight")


def test_options_that_are_not_asked_for_leave_the_record_as_it_was() -> None:
    assert not {"captions", "domains"} & set(DataConfig(source="glyphs").model_dump())
