import multiprocessing
import pickle
import random
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from pipeline.data.loading import ImageDataset, set_epoch, train_loader, validation_loader
from pipeline.data.sampling import GlobalBatchSampler, SampleKey, batch_shares
from pipeline.data.sources import UnreadableImageError, decoded, open_source
from pipeline.data.transforms import Preprocessing, eval_transform, train_transform
from pipeline.errors import JobError

PREPROCESSING = Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
AUGMENT = train_transform(PREPROCESSING, crop="random_resized", flip_probability=0.5)
PLAIN = eval_transform(PREPROCESSING)


def batches(plan, *, epoch=0, num_loader_workers=0, seed=7):
    loader = train_loader(
        plan,
        AUGMENT,
        batch_size=32,
        rank=0,
        world_size=1,
        seed=seed,
        num_loader_workers=num_loader_workers,
    )
    set_epoch(loader, epoch)
    return [images for images, _ in loader]


@pytest.fixture(scope="module")
def small_plan(digits_plan):
    return digits_plan.take(0.1, seed=0)


@pytest.fixture(scope="module")
def epoch_3(small_plan):
    return batches(small_plan, epoch=3)


def sampled(*, rank=0, world_size=1, epoch=0, first_step=0, num_images=50, batch_size=12, repeats=1, grain=1):
    sampler = GlobalBatchSampler(
        num_images,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        seed=3,
        repeats=repeats,
        grain=grain,
    )
    sampler.set_epoch(epoch, first_step=first_step)
    return list(sampler)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_all_workers_together_see_the_batches_of_one(world_size):
    parts = [sampled(rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [sorted(chain(*step)) for step in zip(*parts, strict=True)]
    assert together == [sorted(step) for step in sampled()]


def test_an_incomplete_batch_is_dropped_and_no_image_repeats():
    keys = [key for step in sampled() for key in step]
    assert len(keys) == len(set(keys)) == 48


def test_repeats_stay_in_a_batch_and_keep_the_number_of_steps():
    steps = sampled(repeats=3)
    assert len(steps) == len(sampled())
    for step in steps:
        appearances = Counter(key.position for key in step)
        assert set(appearances.values()) == {3}
    assert {key.repeat for key in steps[0]} == {0, 1, 2}


def test_workers_share_the_repeats_of_an_image():
    first, second = (sampled(rank=rank, world_size=2, repeats=2)[0] for rank in (0, 1))
    assert [key.position for key in first] == [key.position for key in second]
    assert ({key.repeat for key in first}, {key.repeat for key in second}) == ({0}, {1})


def test_a_repeated_image_is_varied_anew(small_plan):
    loader = train_loader(
        small_plan,
        AUGMENT,
        batch_size=32,
        rank=0,
        world_size=1,
        seed=7,
        num_loader_workers=0,
        repeats=2,
    )
    images, labels = next(iter(loader))
    assert torch.equal(labels[::2], labels[1::2])
    assert not torch.equal(images[::2], images[1::2])


def test_every_epoch_has_another_order():
    positions = [[key.position for key in sampled(epoch=epoch)[0]] for epoch in (0, 1)]
    assert positions[0] != positions[1]


@pytest.mark.parametrize(("batch_size", "world_size", "grain"), [(3, 4, 1), (7, 1, 2), (6, 4, 2)])
def test_a_batch_must_reach_for_all_workers(batch_size, world_size, grain):
    with pytest.raises(ValueError, match=f"got a batch of {batch_size} for {world_size}"):
        sampled(batch_size=batch_size, world_size=world_size, grain=grain)


@pytest.mark.parametrize(
    ("world_size", "grain", "shares"), [(5, 1, [3, 3, 2, 2, 2]), (4, 2, [4, 4, 2, 2]), (3, 4, [4, 4, 4])]
)
def test_shares_are_as_equal_as_whole_grains_can_be(world_size, grain, shares):
    assert batch_shares(12, world_size=world_size, grain=grain) == shares
    parts = [sampled(rank=rank, world_size=world_size, grain=grain) for rank in range(world_size)]
    assert [len(part[0]) for part in parts] == shares


@pytest.mark.parametrize("first_step", [1, 3, 4])
def test_an_epoch_can_be_gone_on_with_by_another_number_of_workers(first_step):
    parts = [sampled(rank=rank, world_size=5, first_step=first_step) for rank in range(5)]
    together = [sorted(chain(*step)) for step in zip(*parts, strict=True)]
    assert together == [sorted(step) for step in sampled()[first_step:]]


def test_the_data_must_fill_one_batch():
    with pytest.raises(ValueError, match="got 5 images for a batch of 12"):
        sampled(num_images=5)


def test_a_rank_beyond_the_workers_is_refused():
    with pytest.raises(ValueError, match="got rank=2 and world_size=2"):
        sampled(rank=2, world_size=2)


@pytest.mark.parametrize("num_loader_workers", [0, 1, 2])
def test_images_do_not_depend_on_loader_processes(small_plan, epoch_3, num_loader_workers):
    again = batches(small_plan, epoch=3, num_loader_workers=num_loader_workers)
    assert all(torch.equal(*pair) for pair in zip(again, epoch_3, strict=True))


def test_persistent_loader_processes_learn_the_epoch(small_plan, epoch_3):
    loader = train_loader(
        small_plan, AUGMENT, batch_size=32, rank=0, world_size=1, seed=7, num_loader_workers=1
    )
    first_epoch = [images for images, _ in loader]
    set_epoch(loader, 3)
    assert not torch.equal(first_epoch[0], epoch_3[0])
    assert torch.equal(next(iter(loader))[0], epoch_3[0])


def test_images_do_not_depend_on_what_was_drawn_before(small_plan, epoch_3):
    torch.rand(5)
    random.random()
    assert torch.equal(batches(small_plan, epoch=3)[0], epoch_3[0])


def test_loading_leaves_the_random_state_alone(small_plan):
    torch.manual_seed(0)
    random.seed(0)
    expected = torch.get_rng_state(), random.getstate()
    batches(small_plan)
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert random.getstate() == expected[1]


def test_an_image_looks_different_in_another_epoch():
    dataset = ImageDataset("builtin:digits", np.arange(9), np.arange(9), AUGMENT, seed=1)
    first, second = (dataset[SampleKey(epoch, 4)][0] for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_a_training_batch_is_the_share_of_one_worker(digits_plan):
    loader = train_loader(
        digits_plan, AUGMENT, batch_size=32, rank=1, world_size=2, seed=0, num_loader_workers=0
    )
    images, labels = next(iter(loader))
    assert (images.shape, images.dtype) == ((16, 3, 8, 8), torch.float32)
    assert (labels.shape, labels.dtype) == ((16,), torch.int64)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_counts_every_image_once(small_plan, world_size):
    loaders = [
        validation_loader(
            small_plan, PLAIN, batch_size=8, rank=rank, world_size=world_size, num_loader_workers=0
        )
        for rank in range(world_size)
    ]
    labels = torch.cat([labels for loader in loaders for _, labels in loader])
    assert sorted(labels.tolist()) == sorted(small_plan.validation_labels.tolist())


def test_a_worker_without_validation_images_gets_no_batch(small_plan):
    loader = validation_loader(small_plan, PLAIN, batch_size=8, rank=99, world_size=100, num_loader_workers=0)
    assert list(loader) == []


def test_given_validation_images_come_from_their_own_location(prepare, parquet_file):
    train = parquet_file([0, 1, 0, 1], name="a.parquet")
    plan = prepare(train, parquet_file([1, 0], name="b.parquet"))
    loader = validation_loader(plan, PLAIN, batch_size=8, rank=0, world_size=1, num_loader_workers=0)
    assert next(iter(loader))[1].tolist() == [1, 0]


def test_a_data_set_pickles_without_images(parquet_file):
    path = parquet_file([0, 1] * 20)
    dataset = ImageDataset(str(path), np.arange(2), np.arange(2), PLAIN)
    image = dataset[1][0]
    assert len(pickle.dumps(dataset)) < 5_000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1][0], image)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="only forked processes share memory")
def test_forked_loader_processes_share_the_bytes_read_before(prepare, parquet_file):
    path = parquet_file([0, 1] * 4)
    plan = prepare(path)
    loader = train_loader(plan, PLAIN, batch_size=6, rank=0, world_size=1, seed=0, num_loader_workers=1)
    path.unlink()
    assert len(next(iter(loader))[1]) == 6


@pytest.mark.faults
def test_an_image_broken_after_the_check_is_named(prepare, image_folder, monkeypatch):
    monkeypatch.setattr(decoded, "LIMIT_BYTES", 0)
    root = image_folder("train", cat=2, dog=2)
    plan = prepare(root, image_folder("val", cat=1, dog=1))
    loader = train_loader(plan, PLAIN, batch_size=4, rank=0, world_size=1, seed=0, num_loader_workers=0)
    (root / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(
        UnreadableImageError, match=r"one has not: dog/1\.png: cannot be decoded .*; restore it"
    ):
        list(loader)


def test_files_that_changed_after_the_check_are_refused(prepare, image_folder):
    root = image_folder(cat=8, dog=8)
    plan = prepare(root)
    (root / "cat" / "0.png").unlink()
    with pytest.raises(JobError, match=r"names or sizes of the files in .* have changed"):
        train_loader(plan, PLAIN, batch_size=4, rank=0, world_size=1, seed=0, num_loader_workers=0)


def test_cifar10_is_read_to_its_last_row(cifar10):
    source = open_source(cifar10)
    assert np.bincount(source.labels).tolist() == [5_000] * 10
    assert source.read(49_999).size == (32, 32)
