"""The step that quantizes."""

from __future__ import annotations

import torch

from niwaki.compression.config import FinetuneConfig, QuantizeConfig
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.quantization.static import quantize, unquantized
from niwaki.compression.steps import Outcome, StepContext, step
from niwaki.core.contract import GenerativeModel, Graph, NiwakiError
from niwaki.core.errors import NothingToDo
from niwaki.deployment import export_graphs
from niwaki.surgery.quantized import QuantizedLayer, quantized_layers

_SHARE = 0.1  # of the usual learning rate, at 4 bits: rounded weights are already near their place


@step("quantize")
def _quantize(model: GenerativeModel, config: QuantizeConfig, context: StepContext) -> Outcome:
    if config.by == "niwaki":
        return _in_torch(model, config, context)
    floats = export_graphs(model, context.directory / "graphs")
    graphs = quantize(
        model, floats, context.directory / "graphs" / "int8", config, condition=context.condition
    )
    return Outcome(model, graphs=graphs, notes=_left_float(unquantized(graphs)))


def _left_float(graphs: list[str]) -> tuple[str, ...]:
    return tuple(
        f"the graph '{name}' stays float: none of its operators computes on integers" for name in graphs
    )


def _in_torch(model: GenerativeModel, config: QuantizeConfig, context: StepContext) -> Outcome:
    made = quantize_model(model, config, condition=context.condition)
    trained = _trained(made.model, config, context) if config.train else made.model
    if not context.exports:
        return Outcome(trained, skipped=made.skipped, notes=made.notes)
    graphs = export_graphs(trained, context.directory / "graphs")
    asked_for_float = bool(config.layers or config.ignored)
    idle, floats = [], unquantized(graphs)
    for name in floats:
        layers = _layers_run(trained.shipped_graphs()[name])
        if any(layer.input_quantizer is not None for layer in layers):
            raise NiwakiError(f"quantizing changed nothing: no operator of the graph '{name}' is quantized")
        idle += [] if layers or asked_for_float else [name]
    if idle and len(floats) == len(graphs):
        raise NothingToDo(f"quantizing changed nothing: no operator of the graph '{idle[0]}' is quantized")
    notes = (*made.notes, *_left_float(idle))
    return Outcome(trained, graphs=graphs, skipped=made.skipped, notes=notes)


def _layers_run(graph: Graph) -> list[QuantizedLayer]:
    """Quantized layers that a call of the graph runs: a graph may be a view of a larger module."""
    ran: list[QuantizedLayer] = []
    layers = quantized_layers(graph.module).values()
    handles = [layer.register_forward_pre_hook(lambda m, _: ran.append(m)) for layer in layers]
    try:
        with torch.no_grad():
            graph(*graph.example(1))
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _trained(model: GenerativeModel, config: QuantizeConfig, context: StepContext) -> GenerativeModel:
    from niwaki.compression.distillation.finetune import finetune

    base = context.recovery if isinstance(context.recovery, FinetuneConfig) else _taught(model)
    share = _share(config)
    rates = {"lr": base.lr * share, "own_lr": base.own_lr * share}
    settings = base.model_copy(update={"steps": config.train, "batch": config.batch or base.batch, **rates})
    split, directory = context.training_split(), context.directory / "training"
    return finetune(
        model, context.original, split, settings, seed=context.seed, directory=directory,
        progress=context.on_progress,
    )  # fmt: skip


def _taught(model: GenerativeModel) -> FinetuneConfig:
    """By the outputs alone, where a rule compares them: the model's own loss gained nothing on the digits GAN
    (4 bits: error 0.031 with, 0.030 without) and took three times as long."""
    from niwaki.compression.distillation.rules import RULES
    from niwaki.compression.distillation.tokens import autoregressive_leg

    ruled = any(g.role in RULES or autoregressive_leg(model, n) for n, g in model.shipped_graphs().items())
    made = FinetuneConfig.model_validate({"precision": "fp32"})
    return made.model_copy(update={"task_loss_weight": 0.0}) if ruled else made


def _share(config: QuantizeConfig) -> float:
    """Halved with every bit more, as the steps of the grid are: at 8 bits larger rates undo more than they
    mend (digits GAN: error 0.0057 with 2e-4, 0.0051 with 1e-5)."""
    every = [config.of(""), *map(config.of, config.layers)]
    bits = min((one.bits for one in every if one is not None and one.bits <= 8), default=8)
    return _SHARE * 2.0 ** min(4 - bits, 0)
