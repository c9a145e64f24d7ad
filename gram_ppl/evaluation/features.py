"""How good generated pictures of digits are: Fréchet distance and inception score on the features of a small network.

FID (Heusel et al. 2017, arXiv:1706.08500) compares means and covariances of features of two sets of pictures; the
inception score (Salimans et al. 2016, arXiv:1606.03498) is high where each picture is clearly of one class and the
classes are even. The usual Inception network was trained on photographs; here a LeNet is trained on the digits
themselves. So scores are comparable between pictures judged by the same network, not with those of other papers, and
both depend on the number of pictures: FID falls with it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..storage.checkpoint import CheckpointError, fill, read, write

BATCH = 1000  # pictures at once where no gradient is needed


class LeNet(nn.Module):
    """Two convolutions 5×5 with max pooling, a hidden layer whose activations are the features, and class logits.

    Args:
        size: pixels on a side, at least 4.
        num_features: width of the hidden layer.
        num_classes: how many logits.
        seed: of the initial weights; the global generator is left as it was.
    """

    def __init__(self, size: int = 28, num_features: int = 128, num_classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        if size < 4:
            raise ValueError(f"size: pictures need at least 4 pixels on a side, found {size}.")
        self.size = size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convolutions = nn.Sequential(
                nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            )  # fmt: skip
            self.hidden = nn.Linear(32 * (size // 4) ** 2, num_features)
            self.logits = nn.Linear(num_features, num_classes)

    def features(self, pictures: Tensor) -> Tensor:
        """Activations of the hidden layer, ``[B, size, size] -> [B, num_features]``; grey levels in [0, 1].

        Raises:
            ValueError: pictures of another shape or dtype.
        """
        _check_pictures(pictures, self.size)
        return self.hidden(self.convolutions(pictures[:, None]).flatten(1)).relu()

    def forward(self, pictures: Tensor) -> Tensor:
        """Class logits, ``[B, size, size] -> [B, num_classes]``."""
        return self.logits(self.features(pictures))


def _check_pictures(pictures: Tensor, size: int | None = None) -> None:
    square = pictures.dim() == 3 and pictures.shape[1] == pictures.shape[2]
    if not pictures.is_floating_point() or not square or size not in (None, pictures.shape[-1]):
        side = size or "size"
        raise ValueError(
            f"pictures: expected grey levels of shape [n, {side}, {side}], found {pictures.dtype} of "
            f"{list(pictures.shape)}."
        )


def train_features(
    pictures: Tensor,
    labels: Tensor,
    *,
    epochs: int = 2,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    num_features: int = 128,
    seed: int = 0,
    cache: str | Path | None = None,
) -> LeNet:
    """A LeNet that classifies the pictures, by Adam on the cross-entropy; :func:`accuracy` says how well.

    The same arguments give the same network on the same machine (a few minutes for MNIST on one core).

    Args:
        pictures: ``[n, size, size]`` float, grey levels in [0, 1]; the network is trained on their device.
        labels: ``[n]`` classes 0, 1, ..
        epochs: passes through the pictures in random order; the learning rate falls linearly to 0.
        batch_size: pictures of an update.
        learning_rate: at the start.
        num_features: features of a picture.
        seed: of weights and order; the global generator is left as it was.
        cache: folder in which the network is kept, under a name made from the settings and the data. A network that
            is found there is not trained again.

    Raises:
        ValueError: pictures or labels of a wrong shape or dtype.
        CheckpointError: a damaged file in the cache.
    """
    _check_pictures(pictures)
    if labels.shape != pictures.shape[:1] or labels.is_floating_point() or not len(labels) or int(labels.min()) < 0:
        raise ValueError(
            f"labels: expected one class for each of {len(pictures)} pictures, found {list(labels.shape)}."
        )
    net = LeNet(pictures.shape[-1], num_features, int(labels.max()) + 1, seed).to(pictures.device)
    settings: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "num_features": num_features,
        "seed": seed, "data": _checksum(pictures, labels),
    }  # fmt: skip
    if cache is None:
        return _fit(net, pictures.float(), labels.long(), epochs, batch_size, learning_rate, seed)
    path = Path(cache) / f"lenet-{hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        tensors, found = read(path)
        if found != settings:
            raise CheckpointError(f"{path}: holds a network of other settings or data")
        fill(net, tensors, path)
        return net.eval()
    net = _fit(net, pictures.float(), labels.long(), epochs, batch_size, learning_rate, seed)
    write(path, net.state_dict(), settings)
    return net


def _checksum(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fit(
    net: LeNet, pictures: Tensor, labels: Tensor, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> LeNet:
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    updates = epochs * -(-len(labels) // batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=generator).to(labels.device).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(net(pictures[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def activations(net: LeNet, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``[n, num_features]`` and class probabilities ``[n, num_classes]`` of pictures ``[n, size, size]``."""
    _check_pictures(pictures, net.size)
    weight = net.logits.weight
    features = torch.cat([net.features(part.to(weight)) for part in pictures.split(BATCH)])
    return features, net.logits(features).softmax(-1)


def accuracy(net: LeNet, pictures: Tensor, labels: Tensor) -> float:
    """The share of pictures ``[n, size, size]`` whose label ``[n]`` gets the highest probability."""
    _, probabilities = activations(net, pictures)
    return (probabilities.argmax(-1).cpu() == labels.cpu()).double().mean().item()


def fid(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance of the Gaussians with the moments of two sets of features, ``[n_a, d]`` and ``[n_b, d]``.

    ``|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)`` in float64, covariances with n - 1. With Σ = RᵀR, where R comes
    from a QR decomposition of the centred features, the square root's trace is the sum of the singular values of
    R_a R_bᵀ: no covariance is inverted or rooted, and a singular one is no special case.

    Raises:
        ValueError: fewer than two rows, unequal d, values that are not finite.
    """
    if features_a.dim() != 2 or features_b.dim() != 2 or features_a.shape[1] != features_b.shape[1]:
        shapes = f"{list(features_a.shape)} and {list(features_b.shape)}"
        raise ValueError(f"features: expected [n_a, d] and [n_b, d], found {shapes}.")
    (mean_a, root_a), (mean_b, root_b) = _moments(features_a), _moments(features_b)
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * overlap
    return max(0.0, distance.item())


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.detach().cpu().double()
    if len(features) < 2 or not features.isfinite().all():
        raise ValueError("features: expected at least two rows of finite values.")
    mean = features.mean(0)
    root = torch.linalg.qr(features - mean, mode="r").R
    return mean, root / (len(features) - 1) ** 0.5


def inception_score(probabilities: Tensor) -> float:
    """``exp(mean KL(p(class | picture) ‖ p(class)))`` of class probabilities ``[n, C]``, between 1 and C.

    The score is of all pictures at once; some report its mean over ten parts.

    Raises:
        ValueError: rows that are no probabilities (to 1e-4).
    """
    p = probabilities.detach().cpu().double()
    if p.dim() != 2 or not len(p) or not ((p >= 0).all() and ((p.sum(-1) - 1).abs() < 1e-4).all()):
        raise ValueError(f"probabilities: expected rows of probabilities [n, C], found {list(p.shape)}.")
    p = p / p.sum(-1, keepdim=True)
    return (torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(-1).mean()).exp().item()


def picture_quality(net: LeNet, generated: Tensor, real: Tensor) -> dict[str, float]:
    """``fid`` of generated against real pictures, and the ``inception_score`` of the generated ones.

    Args:
        net: from :func:`train_features`.
        generated: ``[n, size, size]`` float, grey levels in [0, 1].
        real: the same of real pictures, of any number.
    """
    features, probabilities = activations(net, generated)
    reference, _ = activations(net, real)
    return {"fid": fid(features, reference), "inception_score": inception_score(probabilities)}
