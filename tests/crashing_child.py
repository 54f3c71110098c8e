"""Stands in for scripts.fuzzing.child: two networks, then a crash."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from scripts.fuzzing.finding import Finding
from scripts.fuzzing.graph import Graph
from scripts.fuzzing.properties import Case

if __name__ == "__main__":
    graph = Graph(0)
    x = graph.input((1, 3))
    dense = graph.node("MatMul", [x.name, graph.floats(3, 2)], (1, 2))
    Finding(model=graph.model([dense]), case=Case(options={"scheme": "per_tensor"})).save(Path(sys.argv[3]) / "current")
    print(json.dumps({"tried": 1, "refused": ""}))
    print(json.dumps({"tried": 1, "refused": "layer 'a7' is odd"}), flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
