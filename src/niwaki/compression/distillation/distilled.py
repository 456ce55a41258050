"""Training a compressed model on, taught by the uncompressed one: same noise, same condition, same outputs.

Hinton, Vinyals & Dean 2015, for generators as in Aguinaldo et al. 2019 and Li et al. 2020 ("GAN
Compression"). The rule is chosen by a graph's role: what the two networks are asked, and so compared at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.critic import Critic, critic_loss, fooling_loss
from niwaki.compression.distillation.distances import DISTANCES, soft_targets, spread_distance
from niwaki.compression.distillation.features import FeatureTaps
from niwaki.compression.distillation.rules import RULES
from niwaki.compression.distillation.teachers import Teachers, answers
from niwaki.compression.distillation.tokens import autoregressive_leg, forced_logits, has_sequences
from niwaki.compression.forward import losses
from niwaki.core.contract import Batch, CallError, Context, GenerativeModel, NiwakiError, Phase, Trainable

__all__ = ["Distilled"]

SAMPLES = ("generator", "decoder", "translator")
"""Roles whose outputs are samples: how far they lie from each other matters, and a critic can look at
them."""

CRITIC = "distill_critic"
"""Name of the phase that trains the critic of `adversarial`."""


TOKENS = "tokens"
"""Beside the roles of `RULES`: a graph that an autoregressive sampler calls."""


class Distilled(Trainable):
    """A student and its frozen teacher as one thing to train. Only the student is averaged and saved.

    The phases are the student's own; those that train a graph with a known role also bring the student's
    outputs to the teacher's. A model without a loss of its own (an adapted module) is trained by the distance
    alone.
    Raises CallError where neither a rule nor a loss applies.
    """

    def __init__(
        self,
        student: GenerativeModel,
        teacher: GenerativeModel | Sequence[GenerativeModel],
        config: FinetuneConfig,
    ) -> None:
        super().__init__()
        self.student, self.config = student, config
        # Not a submodule: not trained, not averaged, not in checkpoints.
        self.teachers = Teachers([teacher] if isinstance(teacher, GenerativeModel) else teacher)
        # What is called token by token is taught whole sequences, whatever role its author gave it.
        roles = {
            n: TOKENS if autoregressive_leg(student, n) is not None else g.role
            for n, g in student.shipped_graphs().items()
        }
        self._taught = {n: role for n, role in roles.items() if role in RULES or role == TOKENS}
        self._own = config.task_loss_weight > 0 and _has_loss(student)
        if not self._taught and not self._own:
            named = sorted({g.role for g in student.shipped_graphs().values()})
            raise CallError(
                f"no rule says how to distil a graph of the role {', '.join(named)}, "
                "and the model has no loss of its own"
            )
        self._at = self._assign() if self._own else dict.fromkeys(self._taught, "distill")
        self._taps = {
            n: FeatureTaps(student, self.teacher, n, config.layers)
            for n, role in self._taught.items()
            if config.features > 0 and role in RULES
        }
        self._judged = [n for n, role in self._taught.items() if role in SAMPLES]
        if config.adversarial > 0:
            if not self._judged:
                raise CallError(
                    "'adversarial' needs a graph that makes samples (a generator or decoder), and this model "
                    f"has {', '.join(sorted(set(self._taught.values())))}"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same critic in every resumed training
                self.critic = Critic(student.spec)
        self._norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    @property
    def teacher(self) -> GenerativeModel:
        return self.teachers.first

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.teachers.apply(fn)  # they go where the student goes
        return super()._apply(fn, recurse)

    def _assign(self) -> dict[str, str]:
        """graph → the first phase that trains some of it."""
        graphs, found = self.student.shipped_graphs(), {}
        for phase in self.student.phases():
            trained = {id(p) for name in phase.parameters for p in _parameters(self.student, name)}
            for name in self._taught:
                if name not in found and any(id(p) in trained for p in graphs[name].module.parameters()):
                    found[name] = phase.name
        return found

    def phases(self) -> tuple[Phase, ...]:
        critic = (Phase(CRITIC, ("critic",)),) if self.config.adversarial > 0 else ()
        return (*critic, *self._students())

    def _students(self) -> tuple[Phase, ...]:
        if not self._own:
            graphs = self.student.shipped_graphs()
            wanted = {id(p) for name in self._taught for p in graphs[name].module.parameters()}
            names = [n for n, p in self.student.named_parameters() if id(p) in wanted]
            return (Phase("distill", tuple(f"student.{n}" for n in names)),)
        # Stages are for training from scratch: here all parts are trained together.
        return tuple(
            replace(p, parameters=tuple(f"student.{n}" for n in p.parameters), stage=None)
            for p in self.student.phases()
        )

    def rates(self) -> dict[str, float]:
        """Learning rate by optimizer: the taught phases' and the others'."""
        taught = {p.optimizer_name for p in self.phases() if p.name in self._at.values()}
        names = {p.optimizer_name for p in self.phases()}
        return {n: self.config.lr if n in taught else self.config.own_lr for n in names}

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if self.training and ctx.progress >= 0.5:
            # The second half trains what will be used: the network with its running statistics, as in
            # evaluation.
            for norm in self._norms:
                norm.eval()
        if phase == CRITIC:
            return {CRITIC: sum((self._judge(n, batch, ctx) for n in self._judged), torch.zeros(()))}
        taught = [name for name, at in self._at.items() if at == phase]
        terms: dict[str, Tensor] = {}
        if self._own:
            weight = self.config.task_loss_weight if taught else 1.0
            terms.update({k: weight * v for k, v in self.student.loss(phase, batch, ctx).items()})
        if self.config.outputs > 0 or not self._own:
            for name in taught:
                terms.update(self._lessons(name, batch, ctx))
        return terms

    def _lessons(self, name: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """What a graph is taught: its outputs' distance from the teacher's at the same inputs, and where
        asked that of its features, the spread of its samples and a critic's opinion. {} where no rule
        applies."""
        config, role, weight = self.config, self._taught[name], max(self.config.outputs, 1e-8)
        if role == TOKENS:
            if not has_sequences(self.student, name, batch):
                return {}
            made = forced_logits(self.student, name, batch, ctx)
            wanted = self.teachers.mean(lambda t: forced_logits(t, name, batch, ctx))
            return {f"distill_{name}": weight * soft_targets(made, wanted, config.temperature)}
        inputs = self._asked(name, batch, ctx)
        if inputs is None:
            return {}
        graphs, taps = (
            (self.teacher.shipped_graphs()[name], self.student.shipped_graphs()[name]),
            self._taps.get(name),
        )
        terms: dict[str, Tensor] = {}
        if taps is None:
            pairs = list(zip(answers(graphs[1], inputs), self.teachers(name, inputs), strict=True))
        else:
            with taps.recording(graphs[0]) as theirs:
                said = self.teachers(name, inputs)
            with taps.recording(graphs[1]) as own:
                pairs = list(zip(answers(graphs[1], inputs), said, strict=True))
            terms[f"features_{name}"] = config.features * taps.distance(own, theirs)
        distance = torch.stack([DISTANCES[config.distance](a, b) for a, b in pairs]).mean()
        terms[f"distill_{name}"] = weight * distance
        if role in SAMPLES and config.spread > 0 and ctx.progress > 0 and len(batch) > 1:
            spread = torch.stack([spread_distance(a, b) for a, b in pairs]).mean()
            # First what a sample is, then how far from the others: samples that are wrong have no place yet.
            terms[f"spread_{name}"] = config.spread * min(1.0, 2.0 * ctx.progress) * spread
        if role in SAMPLES and config.adversarial > 0:
            opinion = fooling_loss(self.critic(pairs[0][0], batch.get("class")))
            terms[f"adversarial_{name}"] = config.adversarial * opinion
        return terms

    def _judge(self, name: str, batch: Batch, ctx: Context) -> Tensor:
        """What the critic learns from the samples of one graph."""
        inputs = self._asked(name, batch, ctx)
        if inputs is None:
            raise CallError(f"the critic of 'adversarial' has no inputs for the graph '{name}'")
        with torch.no_grad():
            made = answers(self.student.shipped_graphs()[name], inputs)[0]
        wanted = self.teachers(name, inputs)[0]
        return critic_loss(self.critic(wanted, batch.get("class")), self.critic(made, batch.get("class")))

    @torch.no_grad()
    def _asked(self, name: str, batch: Batch, ctx: Context) -> tuple[Tensor, ...] | None:
        """What both are asked, by the rule of the graph's role, with an empty state."""
        graph = self.teacher.shipped_graphs()[name]
        inputs = RULES[graph.role](self.teacher, name, graph, batch, ctx)
        if inputs is None:
            return None
        return (*inputs, *(_zeros(s, len(batch), batch.x.device) for s in graph.state))

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return self.student.prepare(batch, ctx) if self._own else batch

    def after_step(self, ctx: Context) -> None:
        self.student.after_step(ctx)


def _zeros(state: Any, n: int, device: torch.device) -> Tensor:
    return torch.from_numpy(state.zeros(n)).to(device)


def _parameters(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters that a phase names: a submodule's, or one."""
    if name in dict(model.named_modules()):
        return list(model.get_submodule(name).parameters())
    return [p for n, p in model.named_parameters() if n == name]


def _has_loss(model: GenerativeModel) -> bool:
    """A model that refuses to be trained says so with a CallError of its own."""
    was_training = model.training
    try:
        losses(model.eval())
    except CallError:
        return False
    except (NiwakiError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return True  # it has one, which needs more than an example batch
    finally:
        model.train(was_training)
    return True
