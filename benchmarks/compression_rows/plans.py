"""Each step by itself, and the best plan that was written by hand, for every model of the benchmark."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression_rows.artefact import Artefact
from compression_rows.subject import Subject
from niwaki.compression import CompressConfig, compress
from niwaki.core.store import jsonable

__all__ = ["BEST", "Plan", "made_by_plan", "plans", "pruning_of"]

BEST = "best hand-written plan"
MATCHED: Mapping[str, Any] = {"kind": "sampling", "temperature": "match"}
Steps = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """steps: as in a recipe; stem: plans of the same stem begin alike, and share what was made before."""

    name: str
    steps: Steps
    stem: str = ""


def plans(subject: Subject) -> list[Plan]:
    """The rows of one model. What a step needs to be judged fairly (a fine-tuning after 90 % of the weights
    are gone) belongs to its row."""
    tune: dict[str, Any] = {"kind": "finetune", "steps": subject.steps, "batch": subject.batch}
    if subject.tokens:
        tune |= {"task_loss_weight": 1.0, "lr": 1e-3}
    elif not subject.diffusion:
        tune |= {"task_loss_weight": 0.0}
    prune = pruning_of(subject)
    int8 = {"kind": "quantize", **({"model_type": "transformer"} if subject.tokens else {})}
    # The whole network costs several times as much per step as the pruned one.
    few = {"train": max(4, min(subject.steps // 3, 800))}
    if subject.batch < 64:  # so large are the samples
        few["batch"] = subject.batch
    whole = {**tune, "steps": min(subject.steps, 2500)}
    pack = {"kind": "pack"}
    four = {"kind": "quantize", "mode": "weights", "bits": 4, "granularity": "group", "group": 32}
    sparse = {"kind": "prune", "what": "weights", "ratio": 0.9, "ranking": "global"}
    rows = [
        Plan("pack", [pack]),
        Plan("quantize (nncf)", [{**int8, "backend": "nncf"}]),
        Plan("quantize (own)", [{"kind": "quantize", "backend": "niwaki"}]),
        Plan("quantization-aware", [{"kind": "quantize", "backend": "niwaki", **few}]),
        Plan("4-bit weights", [{**four, "method": "adaptive"}]),
        Plan("4-bit weights, trained", [{**four, **few}], "four"),
        Plan("4-bit weights, trained + pack", [{**four, **few}, pack], "four"),
        Plan("share 16", [{"kind": "share", "clusters": 16}]),
        Plan("share 16 + pack", [{"kind": "share", "clusters": 16}, pack]),
        Plan("prune channels", [prune], "main"),
        Plan("prune + finetune", [prune, tune], "main"),
        Plan("90 % sparse + finetune + pack", [sparse, whole, pack]),
    ]
    student = _student(subject)
    if student:
        rows.append(Plan("distill to a smaller one", [{**whole, "kind": "distill", "student": student}]))
    if subject.tokens:
        rows.append(Plan("8-bit weights", [{"kind": "quantize", "mode": "dynamic"}]))
    if subject.diffusion:
        few_steps = {"kind": "sampling", "evaluations": 6, "solver": "dpmpp_2m"}
        teach: dict[str, Any] = {**tune, "kind": "distill"}
        halved = {**teach, "evaluations": 4, "lr": 5e-4}
        rows += [
            Plan("6 steps, dpmpp_2m", [few_steps]),
            Plan("4 steps, progressive", [halved], "few"),
            Plan("2 steps, consistency", [{**teach, "evaluations": 2, "method": "consistency"}]),
        ]
        if subject.name == "digits-ddpm":
            return [*rows, Plan(BEST, [halved, prune, tune, int8], "few")]
        # Four steps of letters take longer to learn than those of digits; a better solver needs no training.
        longer = {**tune, "steps": 4 * subject.steps}
        return [*rows, Plan(BEST, [prune, longer, {**few_steps, "evaluations": 8}, int8], "main")]
    if subject.tokens:
        # Pruned channels are missed more than bits are: the matrices are 128 wide. Of int8 inputs, too.
        return [*rows, Plan(BEST, [{**four, **few}, pack], "four")]
    matched = [prune, tune, MATCHED]
    rows.append(Plan("prune + finetune + temperature", matched, "main"))
    rows.append(Plan("prune + finetune + temperature + int8", [*matched, int8], "main"))
    return [*rows, Plan(BEST, [*matched, {"kind": "quantize", "bits": 4, **few}, pack], "main")]


def pruning_of(subject: Subject) -> dict[str, Any]:
    """What the recipes found: how much each model can do without."""
    if subject.diffusion:
        return {"kind": "prune", "ratio": 0.6 if subject.name == "digits-ddpm" else 0.5, "round_to": 16}
    if subject.tokens:
        return {"kind": "prune", "ratio": 0.25}
    ratio, multiple = {"digits-gan": (0.75, 8), "glyphs-gan": (0.75, 16)}.get(subject.name, (0.6, 16))
    return {"kind": "prune", "ratio": ratio, "importance": "activation", "round_to": multiple}


def _student(subject: Subject) -> dict[str, Any]:
    """Half as wide; {} for a model of no family of ours."""
    config = subject.model.config.model_dump()
    if subject.tokens:
        network = dict(config["network"])
        layers = network["num_hidden_layers"] // 2
        network["num_hidden_layers"] = layers
        if network.get("layer_types"):
            network["layer_types"] = network["layer_types"][:layers]
        return {"network": network}
    if "widths" in config:
        return {"widths": [w // 2 for w in config["widths"]]}
    if "width" in config:
        return {"width": config["width"] // 2, "max_width": config["max_width"] // 2}
    return {}


def made_by_plan(subject: Subject, plan: Plan, directory: Path) -> tuple[Artefact, dict[str, Any]]:
    """Carry a plan out; its bundle is kept in `directory`. Returns it, and what each step did."""
    # As good as untimed, but every step gets its bundle: rows are timed together, at the end.
    config = CompressConfig.model_validate({"steps": list(plan.steps), "rounds": 1, "batches": (1,)})
    workdir = subject.directory / "plans" / (plan.stem or directory.name)
    extractor = None if subject.tokens else subject.extractors[0]
    made = compress(
        subject.model, subject.dataset, config, workdir=workdir, seed=subject.seed, extractor=extractor
    )
    directory.mkdir(parents=True, exist_ok=True)
    bundle = directory / "model.niwaki"
    shutil.copyfile(made.bundle, bundle)
    steps = [
        {k: v for k, v in jsonable(r).items() if k not in ("sparsity", "widths", "skipped")}
        for r in made.records
    ]
    return Artefact("bundle", str(bundle), "openvino"), {"steps": steps}
