import numpy as np
import pytest
import torch

from pipeline.recipe import AugmentationConfig
from pipeline.training.mixing import BatchMixer

IMAGES, LABELS = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])


def _mix(draw=0, smoothing=0.0, seed=0, **augmentation):
    mixer = BatchMixer(
        AugmentationConfig(**augmentation), num_classes=3, label_smoothing=smoothing, seed=seed
    )
    return mixer(IMAGES.clone(), LABELS, draw=draw)


def test_mixup_blends_every_image_with_the_one_opposite_in_the_batch():
    images, targets = _mix(mixup=1.0)
    share = targets[0, 0].item()
    torch.testing.assert_close(images, share * IMAGES + (1 - share) * IMAGES.flip(0))
    assert targets[0].tolist() == pytest.approx([share, 0, 1 - share])


def test_cutmix_takes_every_pixel_from_one_of_two_images():
    images, targets = _mix(cutmix=1.0)
    is_own, is_other = images == IMAGES, images == IMAGES.flip(0)
    assert bool((is_own | is_other).all())
    assert targets[0, 0].item() == pytest.approx(is_own[0, 0].float().mean().item())


def test_targets_are_smoothed_shares_that_sum_to_one():
    _, targets = _mix(mixup=0.2, smoothing=0.3)
    assert targets.dtype == torch.float32
    assert targets.min().item() == pytest.approx(0.1)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 6)


def test_a_batch_is_mixed_in_the_same_way_whenever_it_comes():
    torch.testing.assert_close(_mix(draw=5, mixup=1.0), _mix(draw=5, mixup=1.0), rtol=0, atol=0)
    assert _mix(draw=5, mixup=1.0)[1].tolist() != _mix(draw=6, mixup=1.0)[1].tolist()


def test_mixing_leaves_the_random_state_of_the_process_alone():
    before = np.random.get_state()[1].tolist()
    _mix(mixup=1.0, cutmix=1.0)
    assert np.random.get_state()[1].tolist() == before
