"""What `niwaki train RECIPE --estimate` says beforehand against what the training then takes.

    python benchmarks/estimates.py                     # five recipes with fewer steps
    python benchmarks/estimates.py --only digits-gan --json estimates.json

Both are measured twice over: by the clock, and in seconds of the processor, which others on the machine do
not stretch (the estimate's timer then goes by the processor, too). Memory is the most that the process ever
held. Every part is a process of its own, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPES = {
    "digits-gan": 200, "digits-vae": 300, "digits-realnvp": 200, "docs-transformer": 30, "digits-ddpm": 40,
}  # fmt: skip
"""Steps of each: about a quarter of a minute of training."""
ESTIMATE = """
import json, sys, time
from niwaki.workflow.estimates import timed
if {processor}:
    timed.Watch.__init__.__defaults__ = (time.process_time, 0, 1)
import niwaki
print(json.dumps(niwaki.estimate({recipe!r}, {settings!r}, training=True, progress=False)))
"""
TRAIN = """
import json, resource, time
from niwaki.workflow.stages import train as stage
spent, fit = [], stage.fit
def timed(*args, **how):
    began = time.process_time()
    try:
        return fit(*args, **how)
    finally:
        spent.append(time.process_time() - began)
stage.fit = timed
import niwaki
run = niwaki.train({recipe!r}, {settings!r}, out={out!r}, progress=False)
record = json.loads((run.path / "training.json").read_text())
print(json.dumps({{"seconds": record["training_seconds"], "processor": spent[0],
                  "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}}))
"""


def answer(code: str) -> dict[str, Any]:
    """What a process of its own prints last."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def row(recipe: str, steps: int) -> dict[str, Any]:
    settings = [f"train.steps={steps}"]
    said, by_processor = (
        answer(ESTIMATE.format(recipe=recipe, settings=settings, processor=processor))
        for processor in (False, True)
    )
    with tempfile.TemporaryDirectory() as folder:
        took = answer(TRAIN.format(recipe=recipe, settings=settings, out=f"{folder}/run"))
    return {
        "recipe": recipe, "steps": steps,
        "seconds": [said["seconds"], took["seconds"]],
        "processor": [by_processor["seconds"], took["processor"]],
        "memory": [said["memory_bytes"], took["memory"]],
    }  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """Said, taken, and by how much the estimate is off."""
    lines = [
        "| recipe | steps | seconds: said, taken | of the processor: said, taken | off | memory: said, taken "
        "| off |",
        "|---|---|---|---|---|---|---|",
    ]
    for of in rows:
        (s, t), (p, q), (m, k) = of["seconds"], of["processor"], of["memory"]
        lines.append(
            f"| {of['recipe']} | {of['steps']} | {s:.1f}, {t:.1f} | {p:.1f}, {q:.1f} | {p / q - 1:+.0%} "
            f"| {m / 1e9:.2f}, {k / 1e9:.2f} GB | {m / k - 1:+.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(RECIPES))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/estimates.json"))
    options = parser.parse_args()
    from niwaki.core.store import write_json, write_text

    rows = []
    for recipe in options.only or RECIPES:
        rows.append(row(recipe, RECIPES[recipe]))
        print(markdown(rows[-1:]).splitlines()[-1], file=sys.stderr)
        write_json(options.json, {"rows": rows})
    print(markdown(rows))
    write_text(options.json.with_suffix(".md"), markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
