"""The pictures in these pages, made by `make docs`; those of models from the finished runs in `runs/`.

python docs/pictures.py
python docs/pictures.py runs/families digits-glow digits-nice   # of these runs alone, where they lie
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path

import mathematics
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.data import DataConfig, Dataset, Split, load
from niwaki.modalities import modality_of
from niwaki.modalities.drawing import heat
from niwaki.modalities.spectrum import frames_of, log_mel, unit
from niwaki.recipe import load_recipe
from niwaki.report.records import DataRecord
from niwaki.workflow.evidence import read_arrays
from niwaki.workflow.run_directory import RunDirectory

HERE = Path(__file__).parent / "img"
GAP = 2


def sheet(split: Split, rows: list[Tensor], zoom: int) -> Image.Image:
    """Rows of samples, each pixel `zoom` pixels wide, on a light ground."""
    _, height, width = split.spec.shape
    columns = max(len(row) for row in rows)
    ground = np.full(
        (len(rows) * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 225, dtype=np.uint8
    )
    for r, row in enumerate(rows):
        for c, picture in enumerate(split.spec.to_uint8(split.values(row).numpy())):
            top, left = GAP + r * (height + GAP), GAP + c * (width + GAP)
            ground[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    return Image.fromarray(ground).resize(
        (ground.shape[1] * zoom, ground.shape[0] * zoom), Image.Resampling.NEAREST
    )


def of_each_class(split: Split, per_class: int) -> list[Tensor]:
    """The first `per_class` samples of every class, one class under the other."""
    assert split.y is not None
    return [torch.nonzero(split.y == c).flatten()[:per_class] for c in range(split.spec.classes)]


def digits(data: Dataset) -> Image.Image:
    by_class = torch.stack(of_each_class(data.train, 4))
    return sheet(data.train, list(by_class.T), zoom=6)


def stacked_digits(data: Dataset) -> Image.Image:
    return stacks(data.spec.to_uint8(data.train.values(torch.arange(16)).numpy()))


def stacks(pixels: np.ndarray) -> Image.Image:
    """Images `(n, 3, h, w)` uint8 in a row, and under each its channels in grey."""
    grey = [np.repeat(pixels[:, k : k + 1], 3, 1) for k in range(3)]
    rows = [np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=225) for x in (pixels, *grey)]
    page = np.concatenate([np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in rows])
    size = (page.shape[1] * 4, page.shape[0] * 4)
    return Image.fromarray(page).resize(size, Image.Resampling.NEAREST)


def glyphs(data: Dataset) -> Image.Image:
    """One font per row, the family that is kept out last."""
    letters = [data.spec.class_names.index(c) for c in "AQRagefkmw3589"]
    rows = []
    for split in (data.train, data.extra["ood"]):
        assert split.y is not None
        fonts = split.attributes["font"]
        kept = sorted(set(fonts.tolist()))[:: 2 if split is data.train else 3]
        rows.append(
            [torch.stack([torch.nonzero((fonts == f) & (split.y == c))[1, 0] for c in letters]) for f in kept]
        )
    top, bottom = sheet(data.train, rows[0], 2), sheet(data.extra["ood"], rows[1], 2)
    whole = Image.new("RGB", (top.width, top.height + bottom.height + 16), "white")
    whole.paste(top, (0, 0))
    whole.paste(bottom, (0, top.height + 16))
    return whole


def glyph_pages(data: Dataset) -> Image.Image:
    """Pages of the training split."""
    return sheet(data.train, list(torch.arange(56).reshape(4, 14)), 2)


def patches(data: Dataset) -> Image.Image:
    """Training crops, then test crops."""
    assert data.train.y is not None
    rows = [index[:: len(index) // 14][:14] for index in of_each_class(data.train, len(data.train))]
    return sheet(data.train, rows, zoom=2)


def pairs(run: RunDirectory, spec: DataSpec, columns: int = 16) -> Image.Image:
    """Two rows by the trained model, a gap, the same seeds by the compressed bundle; classes in turn."""
    kept = read_arrays(run.evidence("samples"))
    before, after = kept["samples"], None
    if run.verdict_arrays("samples").exists():
        after = read_arrays(run.verdict_arrays("samples"))["samples"]
    labels = kept.get("labels", np.arange(len(before)) % 2)
    first = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    order = np.array([group[k] for k in range(2) for group in first if len(group) > k])
    chosen = order[np.linspace(0, len(order) - 1, 2 * columns).astype(int)] if len(first) > 10 else order
    columns = len(chosen) // 2
    zoom = max(1, 48 // spec.shape[1])

    def rows(x: np.ndarray) -> Image.Image:
        u = np.broadcast_to(spec.to_uint8(x[chosen[: 2 * columns]]), (2 * columns, 3, *spec.shape[1:]))
        u = np.pad(u, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=225)
        _, _, h, w = u.shape
        page = u.reshape(2, columns, 3, h, w).transpose(0, 3, 1, 4, 2).reshape(2 * h, columns * w, 3)
        size = (page.shape[1] * zoom, page.shape[0] * zoom)
        return Image.fromarray(page).resize(size, Image.Resampling.NEAREST)

    parts = [rows(x) for x in (before, after) if x is not None]
    whole = Image.new("RGB", (parts[0].width, sum(p.height + 10 for p in parts) - 10), "white")
    for i, part in enumerate(parts):
        whole.paste(part, (0, i * (part.height + 10)))
    return whole


def sound(x: np.ndarray, spec: DataSpec, height: int = 48) -> np.ndarray:
    """One sound `(T,)` as its outline over its log-mel spectrum, a pixel for each frame twice over:
    `(rows, columns, 3)` uint8."""
    frames = frames_of(spec.x)
    u = unit(x, spec.x)
    bands = np.repeat(np.repeat(heat(1 + log_mel(u, frames)[::-1] / 60), 2, 0), 2, 1)
    columns = bands.shape[1]
    ends = np.linspace(0, len(u), columns + 1).astype(int)
    parts = [u[a : max(b, a + 1)] for a, b in itertools.pairwise(ends)]
    low, high = (np.array([f(part) for part in parts]) for f in (np.min, np.max))
    at = np.linspace(1, -1, height)[:, None]
    outline = np.where((at <= high + 1 / height) & (at >= low - 1 / height), 60, 255).astype(np.uint8)
    return np.concatenate([np.repeat(outline[..., None], 3, 2), bands])


def sounds(run: RunDirectory, spec: DataSpec) -> Image.Image:
    """A test sound of each class, one by the trained model, one of the same seed by the compressed bundle."""
    kept = read_arrays(run.evidence("samples"))
    test = load(load_recipe(run.path / "recipe.yaml").data).test
    rows = [(test.values().numpy(), test.y.numpy() if test.y is not None else np.arange(len(test)))]
    rows.append((kept["samples"], kept.get("labels", np.arange(len(kept["samples"])))))
    if run.verdict_arrays("samples").exists():
        rows.append((read_arrays(run.verdict_arrays("samples"))["samples"], rows[1][1]))
    page = []
    for x, labels in rows:
        first = [int(np.flatnonzero(labels == c)[0]) for c in np.unique(labels)[:8]]
        cells = [np.pad(sound(x[i], spec), ((3, 3), (2, 2), (0, 0)), constant_values=255) for i in first]
        page.append(np.concatenate(cells, 1))
    return Image.fromarray(np.concatenate(page))


def _drawn(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.tight_layout(pad=0.4)
    figure.savefig(file, format="png", dpi=80)
    return Image.open(file).convert("RGB")


def curves(run: RunDirectory, columns: int = 6) -> Image.Image:
    """A row of test series, one of the trained model, one of the same seeds of the compressed bundle."""
    made = read_arrays(run.evidence("samples"))["samples"]
    rows = {"test": load(load_recipe(run.path / "recipe.yaml").data).test.values().numpy(), "model": made}
    if run.verdict_arrays("samples").exists():
        rows["bundle"] = read_arrays(run.verdict_arrays("samples"))["samples"]
    figure = Figure(figsize=(1.7 * columns, 1.1 * len(rows)))
    axes = figure.subplots(len(rows), columns, sharey=True, squeeze=False)
    for line, (name, x), colour in zip(axes, rows.items(), ("#222", "#2f6f4f", "#be4a2a"), strict=False):
        line[0].set_ylabel(name, fontsize=8)
        for axis, one in zip(line, x, strict=False):
            axis.plot(one.T, linewidth=0.9, color=colour)
            axis.tick_params(labelsize=6)
    return _drawn(figure)


def fans(run: RunDirectory, columns: int = 4) -> Image.Image:
    """Test series at even places with the median and the 80 % interval of the bundle's paths."""
    kept = run.verdict_arrays("forecast")
    paths = read_arrays(kept if kept.exists() else run.evidence("forecast"))["paths"]
    test = load(load_recipe(run.path / "recipe.yaml").data).test
    past, x = (test.columns[name].data.numpy()[: len(paths), 0] for name in ("past", "x"))
    figure = Figure(figsize=(2.6 * columns, 3.2))
    chosen = np.linspace(0, len(paths) - 1, 2 * columns).astype(int)
    for axis, i in zip(figure.subplots(2, columns).ravel(), chosen, strict=True):
        low, middle, high = np.quantile(paths[i, :, 0], (0.1, 0.5, 0.9), axis=0, method="weibull")
        at = np.arange(past.shape[1], past.shape[1] + x.shape[1])
        axis.fill_between(at, low, high, color="#2f6f4f", alpha=0.3, linewidth=0)
        axis.plot(at, middle, color="#2f6f4f", linewidth=1.2)
        axis.plot(np.concatenate([past[i], x[i]]), color="#222", linewidth=0.9)
        axis.tick_params(labelsize=6)
    return _drawn(figure)


def clips(run: RunDirectory, spec: DataSpec, rows: int = 10) -> Image.Image:
    """A clip in each row, its frames from left to right: by the trained model, and beyond a gap of the same
    seeds by the compressed bundle."""
    parts = [read_arrays(run.evidence("samples"))["samples"]]
    if run.verdict_arrays("samples").exists():
        parts.append(read_arrays(run.verdict_arrays("samples"))["samples"])
    pages = []
    for x in parts:
        file = modality_of(spec.x).rows(x[:rows], spec.x, 0)
        assert file is not None
        pages.append(np.asarray(Image.open(io.BytesIO(file)).convert("L")))
    gap = np.full((pages[0].shape[0], 16), 255, np.uint8)
    return Image.fromarray(np.concatenate([pages[0], *(p for page in pages[1:] for p in (gap, page))], 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="?", type=Path, default=Path("runs"), help="where runs lie (runs)")
    parser.add_argument(
        "names", nargs="*", help="of runs; all, and the pictures of data, where none is named"
    )
    options = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    for path in sorted(options.runs.glob("*/evidence/samples.npz")):
        run = RunDirectory.open(path.parents[1])
        if options.names and run.path.name not in options.names:
            continue
        record = DataRecord.read(run.path)
        spec = None if record is None else DataSpec.from_json(record.spec)
        if spec is not None and spec.modality == "audio":
            picture = sounds(run, spec).quantize(128)
        elif spec is not None and spec.modality == "series":
            picture = curves(run).quantize(64)
        elif spec is not None and spec.axes == "TCHW":
            picture = clips(run, spec).quantize(64)
        elif spec is None or len(spec.shape) != 3:
            continue  # samples that are no images have no sheet
        elif spec.x.names:
            picture = stacks(spec.to_uint8(read_arrays(path)["samples"][:16])).quantize(64)
        else:
            picture = pairs(run, spec).quantize(64)
        picture.save(HERE / f"run-{run.path.name}.png", optimize=True)
        print(HERE.name, f"run-{run.path.name}.png", picture.size)
    for path in sorted(options.runs.glob("*/evidence/forecast.npz")):
        run = RunDirectory.open(path.parents[1])
        if not options.names or run.path.name in options.names:
            fans(run).quantize(64).save(HERE / f"run-{run.path.name}.png", optimize=True)
            print(HERE.name, f"run-{run.path.name}.png")
    for draw in () if options.names else (digits, stacked_digits, glyphs, glyph_pages, patches):
        source = draw.__name__.replace("_", "-")
        data = load(DataConfig(source=source))
        picture = draw(data).quantize(256)  # a palette keeps the files small
        picture.save(HERE / f"data-{source}.png", optimize=True)
        print(HERE.name, f"data-{source}.png", picture.size)
    for name in () if options.names else mathematics.FIGURES:
        mathematics.draw(name).save(HERE / f"math-{name}.png", optimize=True)
        print(HERE.name, f"math-{name}.png")


if __name__ == "__main__":
    main()
