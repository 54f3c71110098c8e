"""A saved artifact is loaded and run where torch is not installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from tests import small_network

CODE = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
import numpy as np, tvm_rsq

try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the hook does nothing")
module = tvm_rsq.load(sys.argv[1])
np.save(sys.argv[3], module.run(np.load(sys.argv[2])))
assert module.plan.layers and module.report is not None and len(module.profile(np.load(sys.argv[2]), repeat=1)) > 3
"""


def test_it_runs(tmp_path):
    module, image = small_network.compiled(), small_network.image()
    module.save(tmp_path / "net.rsq")
    np.save(tmp_path / "x.npy", image)
    arguments = [str(tmp_path / name) for name in ("net.rsq", "x.npy", "y.npy")]
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), module.run(image))
