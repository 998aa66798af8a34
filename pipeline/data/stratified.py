"""Seeded choices that keep every class in proportion."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def split(labels: IntArray, *, validation_fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Return which positions train and which validate, both ascending.

    The same labels, fraction and seed give the same split in every process.

    Args:
        labels: Class of every image; shape (images,); at least two images a class.
        validation_fraction: Part of each class that validates, in (0, 1).
        seed: Chooses among the images of a class.

    Raises:
        ValueError: If there are fewer training or validation images than classes.
    """
    # Imported here: training workers import this module, never split, and scikit-learn takes them a second.
    from sklearn.model_selection import train_test_split

    train, validation = train_test_split(
        np.arange(len(labels)), test_size=validation_fraction, random_state=seed, stratify=labels
    )
    return np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)


def choose(labels: IntArray, *, fraction: float, seed: int) -> IntArray:
    """Return positions of a part of every class, at least one image of each, ascending.

    Args:
        labels: Class of every image; shape (images,).
        fraction: Part of each class to keep, in (0, 1]; rounded to whole images.
        seed: Chooses among the images of a class.
    """
    generator = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        positions = generator.permutation(np.flatnonzero(labels == label))
        kept.append(positions[: max(1, round(fraction * len(positions)))])
    return np.sort(np.concatenate(kept)).astype(np.int64)
