"""Hostile files, a few dozen of each: `scripts/reliability` tries a thousand. What was found by it stays here as a case of its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from scripts.survival import hostile_artifacts, hostile_onnx
from scripts.survival.corrupt_artifact import KINDS, read_parts, write
from scripts.survival.corrupt_onnx import nested
from scripts.survival.isolate import CRASH, ERROR, HANG, MEMORY, REFUSED, WRONG, Wrong, isolated
from scripts.survival.onnx_networks import branches, created, plain
from tests import small_network
from tvm_rsq.artifact import load as load_artifact
from tvm_rsq.errors import ArtifactError, Error, ModelError, UnsupportedError
from tvm_rsq.frontend.load_model import load
from tvm_rsq.frontend.value_sizes import check_value


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject")
    small_network.compiled().save(folder / "net.rsq")
    image = small_network.image()
    return hostile_artifacts.subject(folder / "net.rsq", (image,), small_network.compiled().run(image), folder)


def changed(sound: bytes, change) -> onnx.ModelProto:
    model = onnx.load_from_string(sound)
    change({node.output[0]: node for node in model.graph.node}, {tensor.name: tensor for tensor in model.graph.initializer}, model)
    return model


def set_values(tensor: onnx.TensorProto, *values: float) -> None:
    tensor.raw_data = np.array(values, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).tobytes()


def set_extent(model: onnx.ModelProto, axis: int, extent: int) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent


FOUND = {
    "take about .* GB, the limit is 4": (plain, lambda n, w, m: set_extent(m, 0, 10**6)),
    "expected extents up to": (plain, lambda n, w, m: set_extent(m, 0, 2**40)),
    "of the unknown type 99": (plain, lambda n, w, m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
    "ConstantOfShape .* has the extents": (created, lambda n, w, m: set_values(w["length"], 2**31)),
    "the limit is 4": (created, lambda n, w, m: set_values(w["many"], 10**5, 4, 10**5, 1)),
    "Range .* expected finite numbers, not by 0": (created, lambda n, w, m: set_values(w["step"], 0)),
    "tensor order .*, expected|tensor order .* the limit": (created, lambda n, w, m: set_values(w["limit"], 2**62)),
    "has the scales": (branches, lambda n, w, m: set_values(w["scales"], -3e38, -3e38, -3e38, -3e38)),
    "expected something like|not valid": (plain, lambda n, w, m: setattr(n["n"].attribute[0], "type", onnx.AttributeProto.INTS)),
    "expected finite numbers": (plain, lambda n, w, m: setattr(n["n"].attribute[0], "f", float("inf"))),
    "negative epsilon": (plain, lambda n, w, m: setattr(n["n"].attribute[0], "f", -1.0)),
    r"operator a b\\n\\x1b": (plain, lambda n, w, m: setattr(n["r"], "op_type", "a b\n\x1b[31m")),
    "is float8e4m3fn|is .*float8|size|not valid|damaged": (plain, lambda n, w, m: setattr(w["g.b"], "data_type", 17)),
}


@pytest.mark.parametrize("message", FOUND)
def test_what_was_found_is_refused_in_one_line(message):
    make, change = FOUND[message]
    with pytest.raises(ModelError, match=message) as caught:
        load(changed(make(), change))
    assert str(caught.value).isprintable()


def test_the_limit_of_memory_is_the_user_s(monkeypatch):
    model = changed(plain(), lambda n, w, m: set_extent(m, 2, 16))
    monkeypatch.setenv("TVM_RSQ_MEMORY_GB", "1e-5")
    with pytest.raises(UnsupportedError, match="GB, the limit is 1e-05; .* set TVM_RSQ_MEMORY_GB"):
        load(model)
    monkeypatch.setenv("TVM_RSQ_MEMORY_GB", "much")
    with pytest.raises(Error, match="TVM_RSQ_MEMORY_GB is 'much', expected a number"):
        load(model)


def test_a_value_that_is_empty_is_refused():
    with pytest.raises(ModelError, match=r"tensor a has the shape \[1, 12, 3, 0\], which holds nothing"):
        check_value("a", (1, 12, 3, 0))


def test_names_that_are_no_text_and_deep_graphs(tmp_path):
    for number, data in enumerate((plain().replace(b"the_r", b"the\xff\xfe"), nested(plain(), np.random.default_rng(0)))):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError):
            load(path)


def test_corrupted_files_are_refused_or_still_right(tmp_path):
    said = []
    for what, action in hostile_onnx.cases({"plain": plain(), "branches": branches()}, 23, 11, tmp_path):
        try:
            said.append(f"{what}: {action()}")
        except Error as error:
            assert "\n" not in str(error), what
    assert 0 < len(said) < 30


def test_corrupted_artifacts_are_refused_or_still_right(subject, tmp_path):
    refused = 0
    for _what, action in hostile_artifacts.cases(subject, 3 * len(KINDS), 11, tmp_path / "cases"):
        try:
            action()
        except ArtifactError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 2 * len(KINDS)


def test_the_other_library_would_have_left_a_trace_under_its_own_checksum(subject, tmp_path):
    path = tmp_path / "net.rsq"
    path.write_bytes(write({**read_parts(subject.sound), "lib.so": subject.evil}))
    with pytest.raises(ArtifactError, match="lib.so does not match its checksum"):
        load_artifact(path)
    path.write_bytes(write({**read_parts(subject.sound), "lib.so": subject.evil}, put_right=True))
    with pytest.raises((Error, RuntimeError, AttributeError)):
        load_artifact(path).run(*subject.inputs)
    assert subject.trace.exists(), "the trace shows nothing: a library that runs has to leave it"
    subject.trace.unlink()


def test_an_isolated_case_tells_how_it_ended():
    def hold() -> str:
        return str(len(bytearray(3 * 10**8)))

    def wrong() -> str:
        raise Wrong("off by one")

    def refuse() -> str:
        raise ModelError("no")

    def spin() -> str:
        while True:
            pass

    ends = {
        REFUSED: isolated(refuse), WRONG: isolated(wrong), ERROR: isolated(lambda: str(1 / 0)), HANG: isolated(spin, limit_s=0.05),
        MEMORY: isolated(hold, limit_bytes=10**8), CRASH: isolated(lambda: __import__("os").abort()),
    }  # fmt: skip
    assert {kind: outcome.kind for kind, outcome in ends.items()} == {kind: kind for kind in ends}
