"""torch-pruning by itself: its magnitude pruner at our ratio, then plain training, on openvino.

As its documentation has it: the user names the output layer and the attention's heads; the model's own loss
trains on (the distance to the uncompressed model where it has none), as many steps as our fine-tuning, at
most 5000: a step of the own loss of a GAN, whose critic is as large as ever, takes several times as long.
"""

from __future__ import annotations

import copy
import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compression_rows.artefact import Artefact
from compression_rows.engine_peers import nncf_files
from compression_rows.plans import pruning_of
from compression_rows.subject import Subject
from niwaki.compression.arithmetic import parameters
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.deployment import export_graphs, package
from niwaki.training import TrainConfig, fit

__all__ = ["pruned_alone", "pruned_and_nncf", "tuning_steps"]

_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_LIMIT = 120  # seconds for finding what is cut together; ours takes a few
_made: dict[str, GenerativeModel] = {}


def tuning_steps(subject: Subject) -> int:
    """Of the pruned model with its own loss."""
    return min(subject.steps, 5000)


def pruned_alone(subject: Subject, directory: Path) -> tuple[Artefact, dict[str, Any]]:
    """The pruned and trained float model."""
    model = _trained(subject)
    graphs = export_graphs(model, directory / "graphs")
    bundle = package(model, graphs, directory / "model.niwaki")
    sizes = [parameters(subject.model), parameters(model)]
    return Artefact("bundle", str(bundle), "openvino"), {"parameters": sizes}


def pruned_and_nncf(subject: Subject, directory: Path) -> tuple[Artefact, dict[str, Any]]:
    """The same, then NNCF: what a careful user puts together from the two."""
    model = _trained(subject)
    graphs = export_graphs(model, directory / "graphs")
    bundle = package(model, graphs, directory / "sampling" / "model.niwaki")
    files, flags = nncf_files(model, graphs, directory / "int8", subject)
    made = Artefact("graphs", str(directory / "int8"), "openvino", files, sampling=str(bundle))
    return made, {"flags": flags}


def _trained(subject: Subject) -> GenerativeModel:
    if subject.key not in _made:
        model = _pruned(subject)
        _made[subject.key] = _tuned(subject, model)
    return _made[subject.key]


def _pruned(subject: Subject) -> GenerativeModel:
    import torch_pruning as tp

    model, settings = copy.deepcopy(subject.model).cpu().eval(), pruning_of(subject)
    before = parameters(model)
    root, inputs = _traced(model)
    layers = [m for m in root.modules() if isinstance(m, _KINDS)]
    with _limited(_LIMIT):
        pruner = tp.pruner.MagnitudePruner(
            root,
            inputs,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=settings["ratio"],
            ignored_layers=[layers[-1], *_reshaped(root)],  # the output; by hand, as torch-pruning asks
            num_heads=_heads(root),
            round_to=settings.get("round_to", 8),
        )
        pruner.step()
    if parameters(model) >= before:
        raise NiwakiError("torch-pruning cut nothing")
    model.sample(2, seed=0)
    return model


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """NiwakiError after so long: torch-pruning 1.6 does not come to an end with a Llama of four layers, in 15
    minutes that were tried."""

    def stop(*_: Any) -> None:
        raise NiwakiError(f"torch-pruning did not find what is cut together within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class _Whole(nn.Module):
    """A language model as a function of tokens: its two graphs share one network."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.network, self.first = model.network, model.config.first

    def forward(self, x: Tensor) -> Tensor:
        fed = nn.functional.pad(x[:, :-1], (1, 0), value=self.first)
        return self.network(input_ids=fed, use_cache=False).logits


def _traced(model: GenerativeModel) -> tuple[nn.Module, tuple[Tensor, ...]]:
    if hasattr(model, "logits"):
        levels, length = model.spec.levels, model.spec.shape[0]
        return _Whole(model), (torch.randint(levels, (1, length)),)
    (graph,) = (g for n, g in model.graphs().items() if n in model.sampler().graphs_used())
    return graph.module, graph.example(1)


def _reshaped(root: nn.Module) -> list[nn.Module]:
    """Layers whose outputs an Unflatten splits: torch-pruning 1.6 cuts such a Linear to one channel, or not
    at all, as the weights have it."""
    chains = [list(m.children()) for m in root.modules() if isinstance(m, nn.Sequential)]
    return [a for c in chains for a, b in itertools.pairwise(c) if "Unflatten" in type(b).__name__]


def _heads(root: nn.Module) -> dict[nn.Module, int]:
    """Heads of the layers that make queries, keys and values."""
    found: dict[nn.Module, int] = {}
    for module in root.modules():
        heads = getattr(module, "heads", None)
        for name in ("q", "k", "v"):
            if isinstance(heads, int) and isinstance(getattr(module, name, None), nn.Module):
                found[getattr(module, name)] = heads
        config = getattr(module, "config", None)
        for name in ("q_proj", "k_proj", "v_proj"):
            layer = getattr(module, name, None)
            if layer is not None and config is not None:
                key = "num_attention_heads" if name == "q_proj" else "num_key_value_heads"
                found[layer] = getattr(config, key)
    return found


def _tuned(subject: Subject, model: GenerativeModel) -> GenerativeModel:
    steps, batch = tuning_steps(subject), subject.batch
    if model.name == "adapted":
        return _to_teacher(subject, model)
    one_shot = not subject.diffusion and not subject.tokens
    settings = {
        "steps": steps,
        "batch": min(batch, len(subject.dataset.train)),
        "lr": 1e-3 if subject.tokens else 3e-4,
        "betas": (0.0, 0.99) if one_shot else (0.9, 0.99),
        "warmup": min(20, steps // 2),
        "ema": 0.99,
        "checkpoint_every": 0,
    }
    fit(model, subject.dataset.train, TrainConfig.model_validate(settings), seed=subject.seed)
    return model.cpu().eval()


def _to_teacher(subject: Subject, model: GenerativeModel) -> GenerativeModel:
    """Mean squared distance to the uncompressed samples of the same latents."""
    torch.manual_seed(subject.seed)
    student, teacher = (next(iter(m.graphs().values())) for m in (model, subject.model.eval()))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.99))
    model.train()
    for _ in range(tuning_steps(subject)):
        z = [torch.randn(subject.batch, *port.shape[1:]) for port in student.inputs]
        with torch.no_grad():
            wanted = teacher(*z)
        loss = nn.functional.mse_loss(student(*z), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
