"""A trained network from outside that teaches the super-net."""

from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.networks import NetworkDescription
from pipeline.networks.backbone import create_backbone
from pipeline.storage import StoragePath

from .channels import published_data_config

Colours = tuple[float, ...]


@dataclass(frozen=True)
class TeacherPlan:
    """What every worker needs to build the teacher.

    Attributes:
        network: Of any timm class; it keeps its depth.
        weights: File of all its weights.
    """

    network: NetworkDescription
    weights: StoragePath

    def build(self, *, mean: Colours, std: Colours) -> "Teacher":
        """Return the teacher for images that were normalised with this mean and standard deviation."""
        model = create_backbone(self.network)
        with self.weights.as_local() as path:
            model.load_state_dict(load_file(path))
        own = published_data_config(self.network.backbone, len(mean))
        return Teacher(model, seen=(mean, std), wanted=(tuple(own["mean"]), tuple(own["std"])))


class Teacher(nn.Module):
    """A network that predicts and never learns.

    Args:
        model: Takes images of the job's size and predicts its classes.
        seen: Mean and standard deviation that images come normalised with.
        wanted: Those that the model was trained with.
    """

    def __init__(
        self, model: nn.Module, *, seen: tuple[Colours, Colours], wanted: tuple[Colours, Colours]
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        (mean, std), (own_mean, own_std) = _columns(seen), _columns(wanted)
        self.scale = nn.Buffer(std / own_std)
        self.shift = nn.Buffer((mean - own_mean) / own_std)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits in float32, shape (B, classes), of normalised images (B, channels, height, width)."""
        logits: Tensor = self.model(images * self.scale + self.shift)
        return logits.float()

    def train(self, mode: bool = True) -> "Teacher":  # noqa: ARG002
        """Stay in evaluation mode."""
        return self


def _columns(pair: tuple[Colours, Colours]) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in pair)
    return mean, std
