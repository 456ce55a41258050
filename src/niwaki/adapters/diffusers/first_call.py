"""Every network of a pipeline is called once when it is adapted: what does not work is named then."""

from __future__ import annotations

import torch

from niwaki.adapters.diffusers.quiet import quiet
from niwaki.core.contract import GenerativeModel, NiwakiError, first_line
from niwaki_runtime.samplers.backend import outputs

__all__ = ["call_once"]


def call_once(model: GenerativeModel) -> None:
    """Call each graph with two example rows. Raises NiwakiError for the first that fails, returns anything
    but its outputs of two rows, or makes values that are not finite."""
    for name, graph in model.graphs().items():
        inputs = graph.example(2)
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        try:
            with torch.no_grad(), quiet():
                found = outputs(graph(*(x.clone() for x in inputs)))
        except Exception as error:  # whatever other people's networks raise
            raise NiwakiError(
                f"the pipeline's network '{name}' ({type(_network(graph.module)).__name__}) does not take "
                f"inputs of shape {shapes}: {first_line(error)}; its config does not fit that of the other "
                "networks"
            ) from error
        rows = all(isinstance(out, torch.Tensor) and out.shape[0] == 2 for out in found)
        if not rows or len(found) != len(graph.output_names):
            wanted = "one tensor" if len(graph.output_names) == 1 else f"{len(graph.output_names)} tensors"
            raise NiwakiError(
                f"the pipeline's network '{name}' does not return {wanted} with a row for each sample"
            )
        if not all(bool(torch.isfinite(out).all()) for out in found):
            raise NiwakiError(
                f"the pipeline's network '{name}' makes values that are not finite in float32; its weights "
                "are broken or of another version"
            )


def _network(module: torch.nn.Module) -> torch.nn.Module:
    """The pipeline's own network inside a graph."""
    inner = next((m for key in ("network", "vae") if (m := getattr(module, key, None)) is not None), None)
    inner = inner if inner is not None else getattr(module, "module", None)
    return module if inner is None else (_network(inner) if inner is not module else module)
