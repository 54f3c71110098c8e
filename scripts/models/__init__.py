"""Real pretrained networks that ship inside registry packages, one file per network.

Each file has `load(cache=None) -> Network` and `model() -> (module, example_inputs)`, so that
`tvm-rsq compile scripts.models.mobilenetv2:model` works from the checkout's root. Nothing is fetched at import.
"""
