"""TarFlow (Zhai et al. 2024, "Normalizing Flows are Capable Generative Models"): autoregressive transformers
over patches, one after another, each in the order opposite to the one before."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import CallError, Graph, Port, State, View
from niwaki.models.flow.autoregressive_layers import CausalMove, Reorder, patch_order
from niwaki.models.flow.flow_model import FlowConfig, FlowModel
from niwaki.models.flow.layers import ActNorm
from niwaki.models.flow.transforms import transform_of
from niwaki.models.registry import register
from niwaki_runtime.samplers import AutoregressiveFlow, Sampler

__all__ = ["TarFlow", "TarFlowConfig"]


class TarFlowConfig(FlowConfig):
    """
    patch:   side of the squares that are an image's tokens; other data have a token for each value
    blocks:  autoregressive transformers
    depth:   layers of each
    width:   of their streams
    heads:   of each attention; `width` is a multiple of twice as many
    dropout: of the embeddings and of what each half of a layer adds
    move:    how a value is moved: `affine`, as in the paper, or `spline`
    bins:    segments of a spline
    """

    patch: int = Field(2, ge=1)
    blocks: int = Field(4, ge=1)
    depth: int = Field(2, ge=1)
    width: int = Field(128, ge=2)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    move: Literal["affine", "spline"] = "affine"
    bins: int = Field(8, ge=2, le=64)


@register("tarflow")
class TarFlow(FlowModel):
    """An autoregressive flow: the density of a sample in one pass, samples token by token with cached keys
    and values, for which the step of each block's inverse is a graph.

    config: TarFlowConfig
    spec:   images whose sides are multiples of `patch`, or amounts or levels of any other shape
    """

    Config = TarFlowConfig
    config: TarFlowConfig

    def layers(self) -> list[nn.Module]:
        c, x = self.config, self.spec.x
        layers: list[nn.Module] = [] if self.bounded else [ActNorm(x.size)]
        if x.axes == "CHW":
            if x.shape[1] % c.patch or x.shape[2] % c.patch:
                raise CallError(
                    f"images of {x.shape[1]}×{x.shape[2]} are not made of squares of {c.patch} for 'patch'"
                )
            layers.append(Reorder(patch_order(x.shape, c.patch)))  # type: ignore[arg-type]
        self.dim = x.shape[0] * c.patch**2 if x.axes == "CHW" else 1
        self.tokens = x.size // self.dim
        network = {"width": c.width, "depth": c.depth, "heads": c.heads, "classes": self.classes}
        for i in range(c.blocks):
            move = transform_of(c.move, bins=c.bins)
            layers.append(
                CausalMove(self.tokens, self.dim, move, backwards=bool(i % 2), dropout=c.dropout, **network)
            )
        return layers

    def _blocks(self) -> list[CausalMove]:
        return [layer for layer in self.flow if isinstance(layer, CausalMove)]

    def finish(self, tokens: Tensor) -> Tensor:
        """What all blocks have moved back `(n, size)` → x `(n, *shape)` in the spec's range."""
        for layer in reversed(self.flow):
            if not isinstance(layer, CausalMove):
                tokens = layer.inverse(tokens)  # type: ignore[operator]
        return self.within(self._end(tokens))

    def graphs(self) -> dict[str, Graph]:
        found = super().graphs()
        before, z = Port("before", (1, self.dim)), Port("z", (1, self.dim))
        step = Port("step", (1,), "int64", batch_axis=None, high=self.tokens)
        y = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        steps = {}
        for i, block in enumerate(self._blocks()):
            shapes = block.state_shapes()
            state = tuple(
                State(f"state_{k}", f"state_{k}_new", (1, *shape)) for k, shape in enumerate(shapes)
            )
            steps[f"block_{i}"] = Graph("prior", View(block, "read"), (before, z, step, *y), ("x",), state)
        tokens = Port("tokens", (1, self.spec.size))
        end = Graph("end", View(self, "finish"), (tokens,), ("x",))
        return {**steps, "end": end, "encoder": found["encoder"], "density": found["density"]}

    def decoding(self, z: str = "") -> Sampler:
        blocks = self._blocks()
        return AutoregressiveFlow(
            tokens=self.tokens,
            width=self.dim,
            blocks=tuple(f"block_{i}" for i in reversed(range(len(blocks)))),
            backwards=tuple(block.backwards for block in reversed(blocks)),
            conditions=tuple(self.conditions),
            latent=z,
        )
