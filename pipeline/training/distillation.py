"""Self-distillation: the super-net learns from the labels, the base-net from the super-net.

Shapes: B images, C classes. Source: Kang and Lee 2024, arXiv:2312.16392, section 3.3.
"""

from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks import AdaptiveDepthNetwork


def distillation_loss(student_BC: Tensor, teacher_BC: Tensor, *, temperature: float) -> Tensor:
    """Return how far the base-net's predictions are from the super-net's.

    The teacher is detached here, so no caller can let gradients reach it by mistake.

    Args:
        student_BC: Logits of the base-net.
        teacher_BC: Logits of the super-net on the same images.
        temperature: Divides both logits before softmax; above 0, 1.0 changes nothing.

    Returns:
        KL(teacher || student) in nats, mean over B, times temperature squared; shape ().

    Raises:
        ValueError: If temperature is not above 0.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2 (the squared factor).
    """
    if temperature <= 0:
        raise ValueError(f"temperature > 0 must hold, got {temperature}; 1.0 leaves the logits as they are")
    student_log = functional.log_softmax(student_BC / temperature, dim=1)
    teacher_log = functional.log_softmax(teacher_BC.detach() / temperature, dim=1)
    divergence = functional.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)
    return divergence * temperature**2


class SelfDistillation(nn.Module):
    """One training step's forward pass: both extreme profiles from one stem, and their joint loss.

    Stem once, then all stages whole and all stages skipped; one backward through the returned loss gives
    every parameter its whole gradient, so under DDP gradients are reduced once and none is unused.

    Args:
        network: The network that learns.
        alpha: Share of the super-net's loss, in (0, 1).
        temperature: Of the distillation.
        label_smoothing: Of the super-net's cross-entropy, in [0, 1).
    """

    def __init__(
        self,
        network: AdaptiveDepthNetwork,
        *,
        alpha: float,
        temperature: float,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.alpha = alpha
        self.temperature = temperature
        self.label_smoothing = label_smoothing

    def forward(self, images: Tensor, labels_B: Tensor) -> Tensor:
        """Return alpha * CE(super-net, labels) + (1 - alpha) * KL(super-net || base-net); shape ()."""
        full, base = self.network.extremes
        logits = self.network.forward_profiles(images, (full, base))
        super_BC, base_BC = logits[full].float(), logits[base].float()
        super_loss = functional.cross_entropy(super_BC, labels_B, label_smoothing=self.label_smoothing)
        base_loss = distillation_loss(base_BC, super_BC, temperature=self.temperature)
        return self.alpha * super_loss + (1 - self.alpha) * base_loss
