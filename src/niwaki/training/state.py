"""Everything that a training is at one moment: what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import Trainable
from niwaki.core.differences import differences
from niwaki.training.adapting import adapt, settle
from niwaki.training.checkpoint import Checkpoint, model_shapes
from niwaki.training.config import TrainConfig
from niwaki.training.ema import Ema
from niwaki.training.health import Health
from niwaki.training.identity import identity
from niwaki.training.metrics import Sums
from niwaki.training.optimizer_state import optimizer_tensors, restore_optimizer
from niwaki.training.outliers import Outliers
from niwaki.training.post_hoc_tracking import Tracker
from niwaki.training.resuming import changes, goes_further, may_go_on
from niwaki.training.schedule import lr_factor
from niwaki.training.schedules import followed
from niwaki.training.stages import Stage, locate
from niwaki.training.validation import History
from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["Counters", "State"]


@dataclass
class Counters:
    """All that a step's randomness and data follow from, with the seed.

    step:    training steps finished, over all stages
    batches: batches drawn
    samples: samples drawn, over all processes: where in the endless stream the next batch begins
    stage:   index of the present stage
    start:   training steps before it
    ended:   whether it has reached its end; the next one begins at `step`
    """

    step: int = 0
    batches: int = 0
    samples: int = 0
    stage: int = 0
    start: int = 0
    ended: bool = False


@dataclass
class State:
    """A training at one moment, its optimizers aside (those belong to the stage).

    counters: what the next step's data and randomness follow from
    seconds:  time in steps, earlier sessions included
    last:     the newest metrics
    frozen:   SHA-256 of each frozen part, by `stage/name`
    history:  validations of the present stage
    measured: (step, value) of the figure that the schedule of the present stage goes by
    about:    what else the weights follow from: the data's content, the model's config (`resuming`)
    longer:   lengths that a stage had before it was made longer, `{at, stage, then, now}`
    looks:    what the watch has seen of samples (`watcher`) and of gradients (`gradient_looks`)
    told:     failures that it has told, `{step, stage, failure, text}`
    chosen:   what rules have chosen from the data, `{stage, name, value, text}`
    outliers: gradient norms of the present stage, where `skip` watches them
    health:   how the gradients of every layer fare, by stage
    adapters: folder that trained adapters are kept in, by stage; None keeps none
    adapted:  stage that the adapters on the model are of
    averages: folder that averages for `post_hoc` are kept in, by stage; None keeps none
    tracker:  makes them in the present stage
    """

    model: Trainable
    config: TrainConfig
    seed: int
    device: torch.device
    channels_last: bool = False
    ema: Ema | None = None
    counters: Counters = field(default_factory=Counters)
    seconds: float = 0.0
    last: dict[str, float] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    history: History = field(default_factory=History)
    measured: list[tuple[int, float]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    longer: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    chosen: list[dict[str, Any]] = field(default_factory=list)
    outliers: Outliers = field(default_factory=Outliers)
    health: Health = field(default_factory=Health)
    adapters: Path | None = None
    adapted: str = ""
    averages: Path | None = None
    tracker: Tracker | None = None

    def __post_init__(self) -> None:
        self.sums = Sums(self.device)

    def state_dict(self, stage: Stage, *, copy: bool) -> Checkpoint:
        """The present state, with the optimizers of `stage`.

        copy: whether the tensors are to outlive the next step
        Raises NiwakiError where the model keeps something else than tensors.
        """
        tensors: dict[str, Tensor] = {f"model/{n}": t for n, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{n}": t for n, t in self.ema.values.items()}
        for name, optimizer in stage.optimizers.items():
            moments = optimizer_tensors(optimizer, stage.trained[name])
            tensors |= {f"optimizer/{name}/{n}": t for n, t in moments.items()}
        if self.tracker is not None:
            tensors |= {f"post_hoc/{n}": t for n, t in self.tracker.tensors().items()}
        tensors |= {f"sums/{n}": t for n, t in self.sums.values.items()}
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise NiwakiError(
                    f"the model keeps '{name}', which is not a tensor; keep such state in buffers"
                )
        if copy:
            tensors = {n: t.detach().clone() for n, t in tensors.items()}
        record = {
            "step": self.counters.step,
            "batches": self.counters.batches,
            "samples": self.counters.samples,
            "position": {k: getattr(self.counters, k) for k in ("stage", "start", "ended")},
            "validations": self.history.to_json(),
            "stage": stage.config.name,
            "seconds": self.seconds,
            # Generators are seeded by (seed, step, phase, repeat, …): with the step, this is all of their
            # state.
            "rng": {"kind": "counter", "seed": self.seed, "step": self.counters.step},
            "counts": dict(self.sums.counts),
            "last": dict(self.last),
            "frozen": dict(self.frozen),
            "identity": self.identity(),
            "machine": self.machine(),
            **(
                {"measured": [[at, v if math.isfinite(v) else None] for at, v in self.measured]}
                if self.measured
                else {}
            ),
            **({"longer": list(self.longer)} if self.longer else {}),
            **({"chosen": list(self.chosen)} if self.chosen else {}),
            **({"looks": list(self.looks), "told": list(self.told)} if self.looks or self.told else {}),
            **({"outliers": self.outliers.to_json()} if self.outliers.seen else {}),
            **({"health": self.health.table()} if self.health.stages else {}),
        }
        return Checkpoint(tensors, record)

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """All but the optimizers as it was when the checkpoint was taken."""
        record = checkpoint.record
        self.counters = self._counters(record)
        self.counters.ended &= not goes_further(record, self.config)
        self.measured = [
            (int(at), math.nan if value is None else float(value)) for at, value in record.get("measured", ())
        ]
        self.longer = list(record.get("longer", ()))
        self.chosen = list(record.get("chosen", ()))
        self.looks, self.told = list(record.get("looks", ())), list(record.get("told", ()))
        self.seconds, self.last, self.frozen = record["seconds"], dict(record["last"]), dict(record["frozen"])
        self.history = History.from_json(record.get("validations", {}))
        self.outliers.seen = Outliers.from_json(record.get("outliers", {})).seen
        self.health = Health.from_table(record.get("health", ()))
        self.adapt()
        self.load_weights(checkpoint)
        self.sums.restore(checkpoint.part("sums"), record["counts"])

    def adapt(self) -> None:
        """Put the adapters of the present stage on the model, as they are before its first step."""
        stage = self.config.all_stages[self.counters.stage]
        adapt(self.model, self.config, stage, self.seed)
        self.adapted = stage.name
        if self.ema is not None:
            self.ema.track(self.model)

    def settle(self) -> None:
        """Keep the adapters that the model has, and make them part of its weights."""
        file = None if self.adapters is None else self.adapters / f"{self.adapted}.safetensors"
        settle(self.model, self.ema, file)

    def rate_factor(self, stage: Stage, step: int) -> float:
        """Share of the peak learning rate in training step `step` (0-based) of the present stage."""
        seen = [value for at, value in self.measured if at <= step]
        return lr_factor(step - stage.start, stage.config.steps, stage.settings.warmup, stage.schedule, seen)

    def follow(self, stage: Stage, measured: Mapping[str, float]) -> None:
        """Keep what the schedule of the stage goes by. A validation that is there because the stage ends
        does not count: with more steps it would not have been.

        Raises CallError where it was not measured.
        """
        by, step = followed(stage.schedule), self.counters.step
        every = stage.settings.validate_every or self.config.checkpoint_every
        if by is None or not every or step % every:
            return
        if by not in measured:
            raise CallError(
                f"the schedule of the stage '{stage.config.name}' goes by '{by}' on held-out data, which is "
                f"not measured; {nearest(by, measured) if measured else 'give a validation split'}"
            )
        value = float(measured[by])
        self.measured.append((step, value if math.isfinite(value) else math.nan))

    def choose(self, stage: str, name: str, value: float, text: str) -> None:
        """Record what a rule has chosen, and the sentence that says it."""
        self.chosen.append({"stage": stage, "name": name, "value": value, "text": text})

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """The model and its averaged weights."""
        self.model.load_state_dict(checkpoint.part("model"))
        if self.ema is not None:
            self.ema.load(checkpoint.part("ema"))

    def load_optimizers(self, checkpoint: Checkpoint, stage: Stage) -> None:
        for name, optimizer in stage.optimizers.items():
            restore_optimizer(optimizer, stage.trained[name], checkpoint.part(f"optimizer/{name}"))
        if self.tracker is not None:
            self.tracker.load(checkpoint.part("post_hoc"))

    def _counters(self, record: dict[str, Any]) -> Counters:
        """Of a record from before stages could differ in length and batch, what follows from the config."""
        step, batches = record["step"], record["batches"]
        if "position" in record:
            return Counters(step, batches, record["samples"], **record["position"])
        index, start = locate(self.config, step)
        named = next(i for i, s in enumerate(self.config.all_stages) if s.name == record["stage"])
        ended = named < index or step == self.config.total_steps
        if named < index:  # written at the border, before the next stage began
            index, start = named, start - self.config.all_stages[named].steps
        return Counters(step, batches, batches * self.config.batch, index, start, ended)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a resumed training to end where an uninterrupted one does."""
        return {
            "model": model_shapes(self.model),
            "settings": identity(self.config),
            "run": {"seed": self.seed},
            "about": self.about,
        }

    def machine(self) -> dict[str, Any]:
        """What the order of sums, and so the last bits, depend on."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return {"torch": str(torch.__version__), "device": name, "threads": torch.get_num_threads()}

    def check(self, checkpoint: Checkpoint) -> list[str]:
        """Notes on what may change the last bits, or makes the training longer.

        Raises CallError where the checkpoint was written by another model, config or seed, or on other data.
        """
        found = changes(checkpoint.record, self.config, self.seed, self.about)
        shapes = differences(checkpoint.record["identity"]["model"], model_shapes(self.model), "weights")
        may_go_on(found, checkpoint.path, shapes[:1])
        notes = list(found.notes)
        if found.longer:
            then, now = found.longer
            at = {"at": checkpoint.step, "stage": checkpoint.record["stage"], "then": then, "now": now}
            checkpoint.record["longer"] = [*checkpoint.record.get("longer", ()), at]
        if other := differences(checkpoint.record["machine"], self.machine()):
            notes.append(f"resumed on another machine ({other[0]}): the end may differ in the last bits")
        return notes
