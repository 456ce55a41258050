"""A model behind FastAPI as most first write it: a sample for every request, one after another.

python benchmarks/serving_peers/one_at_a_time.py RUN_OR_BUNDLE PORT
"""

from __future__ import annotations

import base64
import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI

import niwaki
from niwaki.serving.media import as_file

model = niwaki.load(sys.argv[1])
app, lock = FastAPI(), threading.Lock()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(body: dict[str, Any]) -> dict[str, str]:
    with lock:  # a pipeline is not to be used by two threads at once
        made = model.sample(1, seed=body["seed"], condition=body["class"])
    x = model.backend().numpy(made)[0]
    return {"image": base64.b64encode(as_file(x, model.program("sample").output)[1]).decode()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
