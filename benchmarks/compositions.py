"""What digits are when several classes are asked for at once, with factors.

    python benchmarks/compositions.py runs/digits-ddpm

For every composition: the shares of samples that a classifier (support vectors on pixels, fitted on the
training split) reads as 3, as 8, and as any other, and how far its first choice lies before its second.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image
from sklearn.svm import SVC

from niwaki import data
from niwaki.models import load_model
from niwaki_runtime.compose import compose

NOTHING: dict[str, int] = {}
ROWS: list[tuple[str, list[dict[str, int]], list[float]]] = [
    ("nothing asked", [NOTHING], [1.0]),
    ("3", [{"class": 3}], [1.0]),
    ("not 3", [{"class": 3}], [-1.0]),
    ("not 3, weaker", [{"class": 3}], [-0.3]),
    ("3 and 8", [{"class": 3}, {"class": 8}], [1.0, 1.0]),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="of a diffusion model of digits with classes")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="a picture (.png): eight samples of every row")
    asked = parser.parse_args()
    digits = data.load(data.DataConfig(source="digits"))
    reader = SVC(gamma=0.02, C=10.0).fit(flat(digits.train.values()), digits.train.y)
    test = float((reader.predict(flat(digits.test.values())) == digits.test.y.numpy()).mean())
    model = load_model(f"{asked.run}/model")
    print(f"n = {asked.n}, seed {asked.seed}; of test digits {100 * test:.1f} % are read rightly\n")
    print("| asked | factors | read as 3 | as 8 | as another | how sure |\n|---|---|---|---|---|---|")
    shown = []
    for words, conditions, factors in ROWS:
        x = compose(model, asked.n, conditions, factors, seed=asked.seed).numpy()
        shown.append(x[:8])
        read = reader.predict(flat(x))
        margin = np.sort(reader.decision_function(flat(x)), 1)
        sure = float((margin[:, -1] - margin[:, -2]).mean())
        shares = [float((read == c).mean()) for c in (3, 8)]
        cells = [f"{100 * share:.1f} %" for share in (*shares, 1 - sum(shares))]
        print(f"| {words} | {', '.join(f'{f:g}' for f in factors)} | {' | '.join(cells)} | {sure:.2f} |")
    if asked.out:
        framed = np.pad(np.stack(shown)[:, :, 0], ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.75)
        sheet = np.concatenate(list(np.concatenate(list(framed.transpose(1, 0, 2, 3)), 2)))
        pixels = np.uint8(np.rint(127.5 * (sheet + 1))).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(asked.out)


def flat(x: object) -> np.ndarray:
    return np.asarray(x).reshape(len(x), -1)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
