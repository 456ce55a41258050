"""Whether a model led by edges obeys them, and its caption too, on glyph pages.

    python benchmarks/control.py runs/pages-controlnet --alone runs/pages-flow-matching --out letters.png

The edges of `-n` test pages lead one sample in each of the six colours: the caption is the page's own but for
the colour. Of every sample the edges are computed again and held against those asked for and those of the
next page (correlation over pixels), and its colour is read: the nearest of the six to its brightest pixels.
`--alone` is a model without edges, asked by the same captions of the same noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from niwaki import data
from niwaki.core.contract import GenerativeModel
from niwaki.data.derivations.edges import edges
from niwaki.data.reading.page_words import COLOURS, page_caption
from niwaki.evaluation.statistics.result import mean_interval, wilson
from niwaki.models import load_model
from niwaki.recipe import load_recipe
from niwaki.uses.control import correlations
from niwaki_runtime.text_conditions import as_tokens

NAMES = list(COLOURS)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("run", help="of a controlnet on glyph pages with colours")
    parser.add_argument("--alone", help="a run of its base")
    parser.add_argument("-n", type=int, default=10, help="test pages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="a picture (.png): edges, then the six colours, a row for each page")
    asked = parser.parse_args()
    dataset = data.load(load_recipe(Path(asked.run) / "recipe.yaml").data)
    pages, n = dataset.test, asked.n
    texts = [page_caption([{**told(dataset, i), "colour": name}]) for i in range(n) for name in NAMES]
    wanted = pages.columns["edges"].values(torch.arange(n)).numpy().repeat(len(NAMES), 0)
    print(f"{n} test pages in {len(NAMES)} colours, seed {asked.seed}\n")
    print("| | edges as asked | edges of the next page | colour as asked |\n|---|---|---|---|")
    for words, run in (("led", asked.run), ("by the caption alone", asked.alone)):
        if run is None:
            continue
        model = load_model(Path(run) / "model")
        given = {"caption": tokens(model, texts)} | ({"edges": wanted} if words == "led" else {})
        x = model.sample(len(texts), seed=asked.seed, condition=given).numpy()
        found = edges(torch.from_numpy(x), model.spec.x).values().numpy()
        right = colours(x) == np.tile(np.arange(len(NAMES)), n)
        low, high = wilson(int(right.sum()), len(right))
        cells = [
            said(correlations(found, wanted)),
            said(correlations(found, np.roll(wanted, len(NAMES), 0))),
            f"{100 * right.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
        ]
        print(f"| {words} | {' | '.join(cells)} |", flush=True)
        if asked.out and words == "led":
            draw(asked.out, wanted, x)


def told(dataset: data.Dataset, i: int) -> dict[str, str]:
    """What is told of the character of test page i, by attribute."""
    labels = {"character": "class", **{k: k for k in ("weight", "slant", "typeface", "place")}}
    columns = {k: dataset.test.columns[v] for k, v in labels.items() if v in dataset.test.columns}
    return {k: column.spec.names[int(column.data[i])] for k, column in columns.items()}


def tokens(model: GenerativeModel, texts: list[str]) -> np.ndarray:
    return np.asarray(as_tokens(model, model.conditions["caption"], texts))


def colours(x: np.ndarray) -> np.ndarray:
    """Which of the six each page's brightest pixels are nearest to `(n,)`; x: `(n, 3, H, W)` in −1 … 1."""
    pixels = ((x + 1) / 2).reshape(len(x), 3, -1)
    bright = pixels.max(1)
    ink = bright >= 0.8 * bright.max(1, keepdims=True)
    mean = (pixels * ink[:, None]).sum(2) / ink.sum(1)[:, None]
    known = np.array(list(COLOURS.values()))
    return np.asarray(np.square(mean[:, None] - known).sum(2).argmin(1))


def said(each: np.ndarray) -> str:
    low, high = mean_interval(each)
    return f"{each.mean():.3f} [{low:.3f}, {high:.3f}]"


def draw(place: str, wanted: np.ndarray, x: np.ndarray) -> None:
    rows, count = len(x) // len(NAMES), len(NAMES) + 1
    first = wanted[:: len(NAMES), None].repeat(3, 2)
    cells = np.concatenate([first, x.reshape(rows, len(NAMES), *x.shape[1:])], 1)
    framed = np.pad(cells, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.75)
    side = framed.shape[-1]
    sheet = framed.transpose(0, 3, 1, 4, 2).reshape(rows * side, count * side, 3)
    Image.fromarray(np.uint8(np.rint(127.5 * (sheet + 1)))).resize(
        (2 * count * side, 2 * rows * side), Image.Resampling.NEAREST
    ).save(place)


if __name__ == "__main__":
    main()
