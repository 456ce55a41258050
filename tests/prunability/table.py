"""python tests/prunability/table.py [NAME …]: examine the zoo (or only these, the others as they were found)
and write docs/prunability.md."""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from prunability.examine import Finding, Reader, record, verdict
from prunability.zoo import CASES, Case

PAGE = Path(__file__).parent.parent.parent / "docs" / "prunability.md"
FINDINGS = Path(__file__).parent / "findings.jsonl"
RATIOS = (0.3, 0.5)

HEAD = """# What can be pruned

Made by `python tests/prunability/table.py`; `tests/prunability/` tests the same (ten and all refusals in
`make test`, all in `make test-all`). {count} architectures, small and with random weights, lose 30 % and 50 %
of their channels (by magnitude, layer by layer, widths not rounded). Every pruned model then gives finite
outputs of the old shapes, lets finite gradients back, is saved, is read back **in another process** that
never saw the original and computes the same there bit for bit, is exported, and computes in openvino and
onnxruntime what torch computes. {passed} pass. {refused} are here because nothing in them can be cut: they
must be refused with the reason, and are. {broken} are broken.

- *parameters*: of the whole model, with what only training uses; before → after 30 % → after 50 %
- *cut*: couplings (layers whose channels stand and fall together) that became narrower at 50 %, of all; what
  makes an output or meets an input keeps its width and is among the rest
- *error*: the largest in either engine at either ratio, over the largest output; at most 1e-4
"""


BROKEN = "BROKEN"


def main(names: list[str]) -> int:
    """How many came out otherwise than expected."""
    known = {(f.name, f.ratio): f for f in map(read, FINDINGS.read_text().splitlines())} if names else {}
    reader = Reader()
    with tempfile.TemporaryDirectory() as place:
        for one in CASES.values():
            for ratio in RATIOS:
                if not names or one.name in names or (one.name, ratio) not in known:
                    found = examined(one, ratio, Path(place) / f"{one.name}-{ratio}", reader)
                    known[one.name, ratio] = found
                    print(found, flush=True)
    reader.close()
    rows = [(one, [known[one.name, ratio] for ratio in RATIOS]) for one in CASES.values()]
    FINDINGS.write_text("".join(record(f) + "\n" for _, found in rows for f in found))
    PAGE.write_text(page(rows))
    unlike = [one.name for one, found in rows if any(not expected(one, f) for f in found)]
    print("otherwise than expected:", ", ".join(unlike) or "none")
    return len(unlike)


def expected(one: Case, found: Finding) -> bool:
    return bool(re.search(one.refuses, found.refused)) if one.refuses else not found.refused


def read(line: str) -> Finding:
    return Finding(**json.loads(line))


def examined(one: Case, ratio: float, directory: Path, reader: Reader) -> Finding:
    try:
        return verdict(one, ratio, directory, reader)
    except Exception as error:  # a broken model must stand in the table, not end it
        text = str(error).splitlines()[0] if str(error) else ""
        return Finding(one.name, one.family, ratio, refused=f"{BROKEN}: {type(error).__name__} {text}")


def page(rows: list[tuple[Case, list[Finding]]]) -> str:
    broken = sum(any(f.refused.startswith(BROKEN) for f in found) for _, found in rows)
    refused = sum(any(f.refused for f in found) for _, found in rows) - broken
    passed = len(rows) - refused - broken
    lines = [HEAD.format(count=len(rows), passed=passed, refused=refused, broken=broken)]
    lines += [f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}."]
    for family in dict.fromkeys(one.family for one, _ in rows):
        mine = [(one, found) for one, found in rows if one.family == family]
        lines += [f"\n## {family}\n"]
        if all(one.refuses for one, _ in mine):
            lines += ["| architecture | what is said |", "|---|---|"]
            lines += [f"| {one.name} | {found[-1].refused or 'NOT REFUSED'} |" for one, found in mine]
            continue
        lines += ["| architecture | parameters | cut | error | verdict |", "|---|---|---|---|---|"]
        lines += [line(one, found) for one, found in mine]
    return "\n".join(lines) + "\n"


def line(one: Case, found: list[Finding]) -> str:
    last = found[-1]
    reason = next((f.refused for f in found if f.refused), "")
    if reason:
        verdict = reason if reason.startswith(BROKEN) else f"refused: {reason}"
        return f"| {one.name} | | | | {verdict.splitlines()[0]} |"
    sizes = " → ".join([f"{last.before:,}", *(f"{f.after:,}" for f in found)])
    errors = [e for f in found for e in f.errors.values()]
    verdict = f"passes; {one.unexportable}" if one.unexportable else "passes"
    error = f"{max(errors):.0e}" if errors else ""
    return f"| {one.name} | {sizes} | {last.cut} of {last.couplings} | {error} | {verdict} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
