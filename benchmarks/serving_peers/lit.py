"""The same behind LitServe, which makes batches, too.

    python benchmarks/serving_peers/lit.py RUN_OR_BUNDLE PORT

A batch has one seed there: what a sample is depends on who asked beside it.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve

import niwaki
from niwaki.serving.media import as_file


class Pictures(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = niwaki.load(sys.argv[1])
        self.output = self.model.program("sample").output

    def decode_request(self, request):  # LitServe reads the annotations: without any it gives the JSON
        return request["class"], request["seed"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[Any]:
        made = self.model.sample(len(x), seed=x[0][1], condition=[label for label, _ in x])
        return list(self.model.backend().numpy(made))

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> dict[str, str]:
        return {"image": base64.b64encode(as_file(output, self.output)[1]).decode()}


if __name__ == "__main__":
    api = Pictures(max_batch_size=16, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu", timeout=120).run(
        port=int(sys.argv[2]), host="127.0.0.1", log_level="error", generate_client_file=False
    )
