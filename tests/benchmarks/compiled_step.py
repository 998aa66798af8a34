"""One training step with compiled segments against the same step as it is.

Compilation fuses what stands between convolutions and matrix products; these stay as they are, and on a CPU
they are most of a step.

Run:      python -m tests.benchmarks.compiled_step
Expect:   0.8 to 1.1 times as fast in float32 on a CPU without AVX-512; see RESULTS.md
Takes:    about half an hour on two idle CPU cores, most of it compilation
"""

import time

import torch
from torch._dynamo.utils import counters

from .paired import ROUNDS, Comparison, compare, publish
from .training_step import BATCH_SIZE, CASES, IMAGE_SIZE, PRECISIONS, OurStep, StepCase, random_batch

COMMAND = "python -m tests.benchmarks.compiled_step"


def measure(case: StepCase, precision: str) -> tuple[Comparison, str]:
    """Compare both ways; returns what came out, and what compilation took."""
    images, labels_B = random_batch()
    eager = OurStep(case.network(), case.recipe(precision))
    torch.compiler.reset()
    counters.clear()
    network = case.network()
    network.compile()
    compiled = OurStep(network, case.recipe(precision))
    start_s = time.perf_counter()
    compiled(images, labels_B)
    first_s = time.perf_counter() - start_s
    comparison = compare(
        f"{case.name}, {precision}",
        ("compiled", lambda: compiled(images, labels_B)),
        ("eager", lambda: eager(images, labels_B)),
    )
    graphs = counters["stats"]["unique_graphs"]
    return comparison, f"{case.name}, {precision}: {graphs} graphs, the first step took {first_s:.0f} s."


def main() -> None:
    """Measure all cases and publish them."""
    measured = [measure(case, precision) for precision in PRECISIONS for case in CASES]
    notes = [
        f"One step on {BATCH_SIZE} images of {IMAGE_SIZE} pixels, threads: {torch.get_num_threads()}, "
        f"{ROUNDS} rounds.",
        *(note for _, note in measured),
    ]
    publish("Compiled training step", COMMAND, [comparison for comparison, _ in measured], notes)


if __name__ == "__main__":
    main()
