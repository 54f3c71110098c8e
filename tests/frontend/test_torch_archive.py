""".pt2 files that hold more than a program and tensors."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import pytest
import torch

from tvm_rsq.errors import ModelError
from tvm_rsq.frontend.load_model import load


class Trace:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    program = torch.export.export(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, path)
    assert load(path).inputs[0].shape == (1, 3, 8, 8)
    return path


def rewritten(saved, path, change):
    """A copy with other members."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as out:
        members = {name: source.read(name) for name in source.namelist()}
        change(members, members and next(iter(members)).partition("/")[0])
        for name, data in members.items():
            out.writestr(name, data)
    return path


def test_a_pickled_object_is_refused_and_not_read(saved, tmp_path):
    def change(members, root):
        config = next(name for name in members if name.startswith(f"{root}/data/constants/") and name.endswith(".json"))
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[config] = json.dumps({"config": {"thing": entry}}).encode()
        members[f"{root}/data/constants/opaque_obj_0"] = pickle.dumps(Trace(tmp_path / "ran"))

    with pytest.raises(ModelError, match="holds a pickled object .*thing"):
        load(rewritten(saved, tmp_path / "net.pt2", change))
    assert not (tmp_path / "ran").exists()


def test_sample_inputs_that_are_more_than_tensors_are_not_read(saved, tmp_path):
    def change(members, root):
        name = next(name for name in members if name.startswith(f"{root}/data/sample_inputs/"))
        torch.save(Trace(tmp_path / "ran"), tmp_path / "inputs.pt")
        members[name] = (tmp_path / "inputs.pt").read_bytes()

    with pytest.raises(ModelError, match="is not a torch.export program"):
        load(rewritten(saved, tmp_path / "net.pt2", change))
    assert not (tmp_path / "ran").exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_machine_code_is_refused(saved, tmp_path):
    with pytest.raises(ModelError, match="holds machine code"):
        load(rewritten(saved, tmp_path / "net.pt2", lambda members, root: members.update({f"{root}/data/aotinductor/net/net.so": b"x"})))
