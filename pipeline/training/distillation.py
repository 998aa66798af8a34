"""What a student is told: how far its predictions and its features are from the super-net's.

Shapes: B images, C classes or channels. Source: Kang and Lee 2024, arXiv:2312.16392, section 3.3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def distillation_loss(
    student_BC: Tensor, teacher_BC: Tensor, *, temperature: float, top_k: int | None = None
) -> Tensor:
    """Return how far a student's predictions are from the super-net's, image by image.

    The teacher is detached here, so no caller can let gradients reach it by mistake.

    Args:
        student_BC: Logits of the student.
        teacher_BC: Logits of the super-net on the same images.
        temperature: Divides both logits before softmax; above 0, 1.0 changes nothing.
        top_k: Compare only the teacher's `top_k` highest classes of each image; None, or as many as there
            are classes, compares all.

    Returns:
        KL(teacher || student) in nats, times temperature squared; shape (B,).

    Raises:
        ValueError: If temperature is not above 0.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2 (the squared factor).
    """
    if temperature <= 0:
        raise ValueError(f"temperature > 0 must hold, got {temperature}; 1.0 leaves the logits as they are")
    teacher_BC = teacher_BC.detach()
    if top_k is not None and top_k < teacher_BC.shape[1]:
        teacher_BC, highest = teacher_BC.topk(top_k, dim=1)
        student_BC = student_BC.gather(1, highest)
    student_log = functional.log_softmax(student_BC / temperature, dim=1)
    teacher_log = functional.log_softmax(teacher_BC / temperature, dim=1)
    divergence_BC = functional.kl_div(student_log, teacher_log, reduction="none", log_target=True)
    return divergence_BC.sum(dim=1) * temperature**2


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Return how far a student's stages are from the super-net's, image by image.

    Args:
        student: Pooled output of each stage that is compared, shape (B, channels of the stage) each.
        teacher: The same of the super-net; detached here.
        temperature: Divides both before softmax; above 0.

    Returns:
        Sum over the stages of KL(teacher || student) of softmax over channels, times temperature squared;
        shape (B,).

    Raises:
        ValueError: If temperature is not above 0.
    """
    losses = [
        distillation_loss(at_least_float32(one), at_least_float32(other), temperature=temperature)
        for one, other in zip(student, teacher, strict=True)
    ]
    return torch.stack(losses).sum(dim=0)


def at_least_float32(values: Tensor) -> Tensor:
    """Return values of half precision as float32, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unlearnt_share(teacher_BC: Tensor, targets: Tensor) -> Tensor:
    """Return how much of each image's target the super-net does not know yet: 1 minus its probability.

    Args:
        teacher_BC: Logits of the super-net; detached here.
        targets: Labels of shape (B,), or shares of the classes, shape (B, C).

    Returns:
        In [0, 1], shape (B,).
    """
    known_BC = teacher_BC.detach().softmax(dim=1)
    if targets.ndim == 1:
        return 1 - known_BC.gather(1, targets[:, None]).squeeze(1)
    return 1 - (known_BC * targets).sum(dim=1).clamp(max=1)
