"""What the user said, layer by layer: patterns of names, and the layers that they match."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_override import LayerOverride
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.operator_roles import is_layer


def layer_names(model: Model) -> list[str]:
    """The names of a deploy-form network's layers, in execution order."""
    view = Dataflow(model.module)
    return [str(view.operand(node.name, 1)) for node in view.nodes.values() if is_layer(view, node)]


def resolve_overrides(overrides: Mapping[str, LayerOverride | str], layers: list[str]) -> dict[str, LayerOverride]:
    """Layer -> what the user said of it, later entries filling in and replacing.   ConfigError: a pattern that matches no layer."""
    resolved: dict[str, LayerOverride] = {}
    for pattern, override in overrides.items():
        # A name is matched as it stands first: names may hold brackets.
        matched = [pattern] if pattern in layers else fnmatch.filter(layers, pattern)
        if not matched:
            raise ConfigError(f"override {pattern!r} matches no layer; the layers are {', '.join(layers[:4])}, ... ({len(layers)} in all)")
        parsed = LayerOverride.parse(override) if isinstance(override, str) else override
        for name in matched:
            resolved[name] = parsed.filled_by(resolved.get(name, LayerOverride()))
    return resolved
