"""A bundle's program as one C file and its header."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.arena import plan_arena
from niwaki.deployment.c.constants import Constants
from niwaki.deployment.c.functions import Functions, Parameter
from niwaki.deployment.c.fuse import fuse
from niwaki.deployment.c.lower import lower
from niwaki.deployment.c.noise import NOISE
from niwaki.deployment.c.operators import operators
from niwaki.deployment.c.quantized_moves import move_bytes
from niwaki.deployment.c.tracing import trace
from niwaki.deployment.c.types import C_TYPES
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.reading import read_network
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.specs import ConditionSpec

__all__ = ["Source", "c_name", "write_source"]

_QUANTIZE = """\
/* saturate(round(v / scale) + zero), halves to the even number. */
static int32_t niwaki_quantize(float v, float scale, int32_t zero, int32_t low, int32_t high)
{
    const float q = rintf(v / scale) + (float)zero;
    return q < (float)low ? low : q > (float)high ? high : (int32_t)q;
}
"""
_WORDS = {
    "class", "new", "delete", "this", "int", "float", "double", "char", "short", "long", "signed",
    "unsigned", "void", "const", "static", "if", "for", "while", "do", "switch", "case", "return",
    "template", "namespace", "operator", "private", "public", "union", "struct", "enum", "seed",
    "index", "out", "memory", "main",
}  # fmt: skip
"""Names that C or C++ keep for themselves, or that the written file uses."""


@dataclass(frozen=True)
class Source:
    """What was written.

    text, header: of the two files
    prefix:       of every public name
    arena_bytes:  of memory that the file holds for its work; least_bytes: what any plan needs
    const_bytes:  of weights and tables
    steps:        in which the greatest activation of bytes is counted, the largest; 0 where there is none
    """

    text: str
    header: str
    prefix: str
    arena_bytes: int
    least_bytes: int
    const_bytes: int
    steps: float


def c_name(name: str) -> str:
    """A name that C and C++ take."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    plain = f"_{plain}" if plain[:1].isdigit() else plain
    return f"{plain}_" if plain in _WORDS else plain


def write_source(directory: Path, manifest: Manifest, program: str, prefix: str) -> Source:
    """The program of an unpacked bundle. Raises NiwakiError for a sampler, an operator or a type of values
    that has no form in C."""
    asked = manifest.programs[program]
    names = asked.sampler.graphs_used()
    networks = {name: _network(directory, manifest, name) for name in names}
    plans = {name: plan_arena(network) for name, network in networks.items()}
    called = {name: _renamed(network) for name, network in networks.items()}
    stateful = {name for name in names if manifest.graphs[name].state}
    sampler = trace(asked, called, {name: plan.bytes for name, plan in plans.items()}, stateful)
    if sampler.arrays[sampler.outputs[0]].dtype != "float32":
        raise NiwakiError(f"the program '{program}' makes tokens, which have no form in C")
    steps = _quantizer_steps(networks)
    lower(sampler)
    fuse(sampler)
    plan = plan_arena(sampler)
    constants = Constants()
    functions = Functions(constants)
    parts = [functions.network(n, plans[name], called[name].name) for name, n in networks.items()]
    seeded = (Parameter("uint64_t", "seed"), Parameter("uint64_t", "index"))
    parts.append(functions.network(sampler, plan, "run_steps", seeded))
    plans_of = [plan, *plans.values()]
    size = max(8, *(p.bytes for p in plans_of))
    declared = _declarations(asked.inputs, sampler, networks, program, prefix)
    header = _header(manifest, prefix, declared, asked.output.shape, size)
    entries = _entries(declared, sampler, networks, called, asked.inputs)
    body = functions.kernels() + "\n" + "\n".join(parts)
    pieces = [
        f'#include "{prefix}.h"\n\n#include <math.h>\n#include <string.h>\n',
        _QUANTIZE if "niwaki_quantize(" in body else "",
        NOISE if "niwaki_normal(" in body else "",
        constants.text(),
        f"static union {{\n    double aligned;\n    uint8_t bytes[{size}];\n}} memory;\n",
        body,
        entries,
    ]
    head = _title(manifest, program)
    text = head + "\n".join(piece for piece in pieces if piece)
    least = max(p.least for p in plans_of)
    return Source(text, header, prefix, size, least, constants.bytes, steps)


def _network(directory: Path, manifest: Manifest, name: str) -> Network:
    graph = manifest.graphs[name]
    inputs, outputs = list(graph.input_names), list(graph.output_names)
    network = read_network(directory / graph.file, name, inputs, outputs, known=operators(), form="C")
    move_bytes(network)
    lower(network)
    fuse(network)
    return network


def _renamed(network: Network) -> Network:
    """As the sampler calls it."""
    return Network(
        f"network_{c_name(network.name)}", network.inputs, network.outputs, network.arrays, {}, {}, []
    )


def _quantizer_steps(networks: Mapping[str, Network]) -> float:
    """The largest scale by which an activation is counted in bytes; 0 where none is."""
    found = [0.0]
    for network in networks.values():
        for step in network.steps:
            maps = [step, *filter(None, [step.attributes.get("epilogue")])]
            for one in maps:
                for _, text in one.attributes.get("lines", ()):
                    found += [float(s) for s in re.findall(r"niwaki_quantize\([^,]+, ([\d.e+-]+)f", text)]
    return max(found)


def _title(manifest: Manifest, program: str) -> str:
    return (
        f"/* {manifest.name}: the program '{program}' in C99, written by niwaki {manifest.niwaki}.\n"
        "   No heap, no other files; of libc memcpy and functions of <math.h>. */\n"
    )


@dataclass(frozen=True)
class _Declared:
    sample: str
    networks: dict[str, str]
    labels: dict[str, str]


def _declarations(
    inputs: Mapping[str, ConditionSpec],
    sampler: Network,
    networks: Mapping[str, Network],
    program: str,
    prefix: str,
) -> _Declared:
    """Signatures: of the program, and of each network."""
    parameters = [Parameter("uint64_t", "seed"), Parameter("uint64_t", "index")]
    labels = {}
    for name in sampler.inputs:
        kind = C_TYPES[sampler.arrays[name].dtype]
        if inputs[name].is_label:
            labels[name] = c_name(name)
            parameters.append(Parameter(kind, c_name(name)))
        else:
            parameters.append(Parameter(f"const {kind} *", c_name(name)))
    parameters.append(Parameter("float *", "out"))
    sample = f"int {prefix}_{c_name(program)}({', '.join(map(str, parameters))})"
    runs = {}
    for name, network in networks.items():
        reads = [Parameter(f"const {C_TYPES[network.arrays[i].dtype]} *", c_name(i)) for i in network.inputs]
        writes = [
            Parameter(f"{C_TYPES[network.arrays[o].dtype]} *", f"{c_name(o.removesuffix('.copy'))}_out")
            for o in network.outputs
        ]
        runs[name] = f"void {prefix}_run_{c_name(name)}({', '.join(map(str, [*reads, *writes]))})"
    return _Declared(sample, runs, labels)


def _header(manifest: Manifest, prefix: str, declared: _Declared, shape: tuple[int, ...], arena: int) -> str:
    upper = prefix.upper()
    runs = "".join(f"{line};\n" for line in declared.networks.values())
    return (
        f"/* {manifest.name}, by niwaki {manifest.niwaki}. One thread at a time: the memory is shared. */\n"
        f"#ifndef {upper}_H\n#define {upper}_H\n\n#include <stdint.h>\n\n"
        f"#define {upper}_SIZE {math.prod(shape)} /* values of one result, shape {list(shape)} */\n"
        f"#define {upper}_ARENA_BYTES {arena}\n\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
        "/* Result `index` of `seed` into `out`, as the runtime makes it. 0, or 1 for an unknown label. */\n"
        f"{declared.sample};\n\n"
        "/* A network alone, for one sample. */\n"
        f"{runs}\n"
        "#ifdef __cplusplus\n}\n#endif\n\n#endif\n"
    )


def _entries(
    declared: _Declared,
    sampler: Network,
    networks: Mapping[str, Network],
    called: Mapping[str, Network],
    inputs: Mapping[str, ConditionSpec],
) -> str:
    checks = ""
    for name, label in declared.labels.items():
        spec = inputs[name]
        null = "" if spec.null is None else f" && {label} != {int(spec.null)}"
        checks += f"    if (({label} < 0 || {label} >= {spec.size}){null}) {{\n        return 1;\n    }}\n"
    handed = [f"&{c_name(n)}" if n in declared.labels else c_name(n) for n in sampler.inputs]
    text = (
        f"{declared.sample}\n{{\n{checks}"
        f"    run_steps({', '.join(['seed', 'index', *handed, 'out', 'memory.bytes'])});\n"
        "    return 0;\n}\n"
    )
    for name, signature in declared.networks.items():
        network = networks[name]
        reads = [c_name(i) for i in network.inputs]
        writes = [f"{c_name(o.removesuffix('.copy'))}_out" for o in network.outputs]
        text += (
            f"\n{signature}\n{{\n"
            f"    {called[name].name}({', '.join([*reads, *writes, 'memory.bytes'])});\n}}\n"
        )
    return text
