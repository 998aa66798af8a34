"""One training step of ours against the step that a textbook would write.

The textbook runs the network twice and goes back twice, in the layout and precision that torch starts with,
and reads its metrics after every step. Ours runs the stem once, goes back once, has channels-last memory for
convolutions and never waits.

Run:      python -m tests.benchmarks.step_against_textbook
Expect:   ResNet-50 1.07 times faster in float32 (1.15 is the aim), 2.2 times with bf16 on a CPU with AMX
Takes:    about three minutes on two CPU cores
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.networks import AdaptiveDepthNetwork

from .paired import ROUNDS, Comparison, compare, publish
from .training_step import BATCH_SIZE, CASES, IMAGE_SIZE, PRECISIONS, OurStep, StepCase, random_batch

COMMAND = "python -m tests.benchmarks.step_against_textbook"


def textbook_step(network: AdaptiveDepthNetwork, optimizer: torch.optim.Optimizer) -> Callable[..., object]:
    """Return the plain step, which adds up its metrics as numbers."""
    metrics = {"loss": 0.0, "correct": 0.0}

    def step(images: Tensor, labels_B: Tensor) -> None:
        optimizer.zero_grad()
        super_BK = network(images)
        super_loss = 0.5 * functional.cross_entropy(super_BK, labels_B)
        super_loss.backward()
        base_BK = network(images, "base")
        teacher_BK = functional.softmax(super_BK.detach(), dim=1)
        base_loss = 0.5 * functional.kl_div(base_BK.log_softmax(dim=1), teacher_BK, reduction="batchmean")
        base_loss.backward()
        optimizer.step()
        metrics["loss"] += super_loss.item() + base_loss.item()
        metrics["correct"] += (super_BK.argmax(dim=1) == labels_B).sum().item()

    return step


def textbook_optimizer(case: StepCase, network: AdaptiveDepthNetwork) -> torch.optim.Optimizer:
    """Return torch's optimiser of the same kind, as it comes."""
    if case.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(network.parameters(), lr=1e-4)


def measure(case: StepCase) -> Iterator[Comparison]:
    """Compare both precisions of ours with the one textbook step."""
    images, labels_B = random_batch()
    plain = case.network()
    textbook = textbook_step(plain, textbook_optimizer(case, plain))
    for precision in PRECISIONS:
        ours = OurStep(case.network(), case.recipe(precision))
        yield compare(
            case.name,
            (precision, lambda ours=ours: ours(images, labels_B)),
            ("textbook, float32", lambda: textbook(images, labels_B)),
        )


def main() -> None:
    """Measure all cases and publish them."""
    comparisons = [comparison for case in CASES for comparison in measure(case)]
    notes = [
        f"One step on {BATCH_SIZE} images of {IMAGE_SIZE} pixels, threads: {torch.get_num_threads()}, "
        f"{ROUNDS} rounds."
    ]
    publish("Training step against the textbook", COMMAND, comparisons, notes)


if __name__ == "__main__":
    main()
