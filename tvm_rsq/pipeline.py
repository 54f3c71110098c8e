"""The order of everything that rewrites IR. The only place with order; each line that could be moved carries its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import Pass, Sequential

from tvm_rsq.model import Model
from tvm_rsq.passes.annotate_qdq import FloatCodes, LayerQuant, annotate_qdq
from tvm_rsq.passes.concat_in_place import concat_in_place
from tvm_rsq.passes.fold_batch_norm import fold_batch_norm
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.passes.lower_islands import KernelCall, lower_islands
from tvm_rsq.passes.lower_movement import Evaluate
from tvm_rsq.passes.name_bindings import NameBindings
from tvm_rsq.passes.resize_to_one import legalize_resize2d
from tvm_rsq.passes.schedule_leftovers import schedule_leftovers
from tvm_rsq.passes.tanh_near_zero import legalize_tanh
from tvm_rsq.passes.to_channels_last import to_channels_last
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.tensor_quant import TensorQuant


def prepare(model: Model) -> Model:
    """Canonical form -> deploy form: the network that is calibrated, annotated and compiled."""
    # Before the layout changes, since it looks for (N, C, H, W); after synthesis, since folded statistics cannot be matched any more.
    model = fold_batch_norm(model)
    model = to_channels_last(model)
    # Last, so that plans and reports name what is left.
    return replace(model, module=Sequential([NameBindings()])(model.module))


def annotate(
    model: Model, layers: Mapping[str, LayerQuant], tensors: Mapping[str, TensorQuant], coded: Mapping[str, FloatCodes] | None = None
) -> Model:
    """Deploy form -> QDQ form, the one that is simulated and exported."""
    mod, params = annotate_qdq(model.module, model.params, layers, tensors, coded or {})
    return replace(model, module=mod, params={var.name: params[var.name] for var in list(mod["main"].params)[len(model.inputs) :]})


def lower(model: Model, library: KernelLibrary, evaluate: Evaluate) -> tuple[IRModule, tuple[KernelCall, ...]]:
    """QDQ form -> kernels of one target and, between them, the operators of float islands."""
    return lower_islands(concat_in_place(fold_islands(model.module)), model.params, library, evaluate)


def build_passes(entries: Sequence[str], library: KernelLibrary) -> list[Pass]:
    """entries: functions that are called from outside.

    Kernels and leftover relax operators -> what the virtual machine runs. No constant folding: it would rebuild compressed weights.
    """
    return [
        relax.transform.LegalizeOps({"relax.image.resize2d": legalize_resize2d, "relax.tanh": legalize_tanh}),
        # Needs the patterns, and our kernels carry "opaque" already, so that nothing is fused into a scheduled kernel.
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(list(entries)),
        # After fusion: what is scheduled is what runs.
        schedule_leftovers(library.schedule),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        # Of memory that is planned: a graph holds addresses.
        *([relax.transform.RewriteCUDAGraph()] if library.graph else []),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]
