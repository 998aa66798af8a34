import io
import logging
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.config import S3Config
from pipeline.data.data_plan import DataPlan
from pipeline.data.loading import set_epoch, train_loader, validation_loader
from pipeline.data.plan import prepare_data
from pipeline.data.sources import open_source
from pipeline.data.streaming.images import StreamedImages
from pipeline.data.streaming.sampler import WINDOW_SHARDS, ShardSampler
from pipeline.data.streaming.scan import ScannedSource
from pipeline.data.streaming.shards import find_sharded
from pipeline.data.transforms import Preprocessing, eval_transform
from pipeline.errors import JobError, RequestError
from pipeline.storage import patience
from pipeline.storage.object_store import make_client
from tests.s3_server import BUCKET

PLAIN = eval_transform(Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear"))
NUM_SHARDS, ROWS = 20, 4
TINY = 1e-9  # GiB: everything is larger


class _Nothing:
    """Shards that are never fetched."""

    names = tuple(map(str, range(NUM_SHARDS)))

    def __len__(self):
        return NUM_SHARDS

    def fetch(self, index):
        pass

    def drop(self, index):
        pass

    def log_failures(self):
        pass


def sampled(*, rank=0, world_size=1, epoch=0, first_step=0, seed=3, rows=NUM_SHARDS * 10, batch_sizes=None):
    """Return the positions of every step of one worker."""
    shard_of_image = np.repeat(np.arange(NUM_SHARDS), rows // NUM_SHARDS)
    sampler = ShardSampler(
        _Nothing(), shard_of_image, batch_sizes=batch_sizes or [4] * world_size, rank=rank, seed=seed
    )
    sampler.set_epoch(epoch, first_step=first_step)
    steps = [[key.position for key in batch] for batch in sampler]
    assert len(steps) == len(sampler) - first_step
    return steps


def test_workers_with_unlike_shares_have_the_same_number_of_steps_and_no_image_comes_twice():
    parts = [sampled(rank=rank, batch_sizes=[5, 5, 4]) for rank in range(3)]
    assert [len(part) for part in parts] == [200 // 14] * 3
    assert [{len(step) for step in part} for part in parts] == [{5}, {5}, {4}]
    positions = [position for part in parts for step in part for position in step]
    assert len(positions) == len(set(positions)) == 200 // 14 * 14


def test_an_epoch_can_be_gone_on_with():
    assert sampled(first_step=7) == sampled()[7:]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_every_worker_has_the_same_number_of_steps_and_no_image_comes_twice(world_size):
    parts = [sampled(rank=rank, world_size=world_size) for rank in range(world_size)]
    positions = [position for part in parts for step in part for position in step]
    assert {len(part) for part in parts} == {200 // (4 * world_size)}
    assert len(positions) == len(set(positions)) > 200 - 4 * world_size


def test_a_worker_reads_its_own_shards_and_shares_at_most_two():
    parts = [
        {position // 10 for step in sampled(rank=rank, world_size=3) for position in step}
        for rank in range(3)
    ]
    assert all(len(part) <= NUM_SHARDS / 3 + 2 for part in parts)
    assert set.union(*parts) == set(range(NUM_SHARDS))


def test_an_epoch_is_the_same_again_and_another_one_another():
    assert sampled(epoch=2) == sampled(epoch=2)
    assert sampled(epoch=2) != sampled(epoch=3)
    assert sampled(epoch=2, seed=4) != sampled(epoch=2)


def test_a_batch_mixes_the_shards_of_a_window():
    assert len({position // 10 for position in sampled(batch_sizes=[20])[0]}) == WINDOW_SHARDS


@pytest.mark.parametrize("world_size", [1, 3, 300])
def test_without_a_seed_every_image_comes_once_in_order(world_size):
    parts = [sampled(rank=rank, world_size=world_size, seed=None) for rank in range(world_size)]
    assert [position for part in parts for step in part for position in step] == list(range(200))


def test_a_rank_beyond_the_workers_is_refused():
    with pytest.raises(ValueError, match="got rank=2 and world_size=2"):
        sampled(rank=2, world_size=2)


@pytest.fixture(params=["parquet", "tar", "path"])
def shards(request, parquet_file, tar_samples, store, encoded):
    """Twenty shards of four images in a store or on a path, and the same on a path."""
    for shard in range(NUM_SHARDS):
        if request.param == "tar":
            local = tar_samples([(shard + row) % 3 for row in range(ROWS)], f"part-{shard:03}.tar").parent
            (local / "classes.txt").write_text("ant\nbee\ncow\n")
        else:
            images = [encoded(shard * ROWS + row) for row in range(ROWS)]
            labels = [(shard + row) % 3 for row in range(ROWS)]
            names = ["ant", "bee", "cow"]
            path = parquet_file(labels, f"all/{shard:03}.parquet", class_names=names, images=images)
            local = path.parent
    return str(local), str(local) if request.param == "path" else store.upload(
        local, f"shards/{request.param}"
    )


def train(plan, *, rank=0, world_size=1, epoch=0, num_loader_workers=0):
    """Return the loader of a streamed epoch."""
    loader = train_loader(
        plan,
        PLAIN,
        batch_size=6,
        rank=rank,
        world_size=world_size,
        seed=1,
        num_loader_workers=num_loader_workers,
    )
    set_epoch(loader, epoch)
    return loader


def digest(loader):
    """Return every image with its label, sorted."""
    return sorted(
        (int(label), image.numpy().tobytes())
        for images, labels in loader
        for image, label in zip(images, labels, strict=True)
    )


def test_streamed_data_makes_the_plan_of_whole_data(shards, s3, prepare):
    whole, streamed = prepare(shards[0]), prepare(shards[1], s3=s3, cache_limit_gib=TINY)
    assert streamed.class_names == whole.class_names == ("ant", "bee", "cow")
    assert np.array_equal(streamed.train_rows, whole.train_rows)
    assert np.array_equal(streamed.validation_labels, whole.validation_labels)
    assert streamed.train_shard_rows.tolist() == [ROWS] * NUM_SHARDS


def test_streamed_images_are_those_of_whole_data(shards, s3, prepare, tmp_path, cache_dir):
    prepare(shards[1], s3=s3, cache_limit_gib=TINY).save(tmp_path / "plan.npz")
    shutil.rmtree(cache_dir)
    plan, source = DataPlan.load(tmp_path / "plan.npz"), open_source(shards[0])
    seen = [pair for rank in range(2) for pair in digest(train(plan, rank=rank, world_size=2))]
    expected = [
        (int(label), PLAIN(source.read(int(row))).numpy().tobytes())
        for row, label in zip(plan.train_rows, plan.train_labels, strict=True)
    ]
    assert len(seen) == 60
    assert sorted(seen) == sorted(expected)


@pytest.fixture(scope="module")
def stored_plan(s3_server, tmp_path_factory):
    """The plan of twenty Parquet shards in the store."""
    root = tmp_path_factory.mktemp("twenty")
    for shard in range(NUM_SHARDS):
        write_shard(root / f"{shard:03}.parquet", first=shard * ROWS)
    location, s3 = s3_server.upload(root, "twenty"), S3Config(endpoint_url=s3_server.url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKIPLINE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return prepare_data(
            location,
            None,
            validation_fraction=0.25,
            seed=0,
            bad_items="fail",
            max_bad_fraction=0.0,
            s3=s3,
            cache_limit_gib=TINY,
        )


def write_shard(path, *, first):
    """Write four images of one colour each."""
    images = []
    for row in range(first, first + ROWS):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (row, 0, 0)).save(file, "PNG")
        images.append({"bytes": file.getvalue()})
    pq.write_table(pa.table({"image": images, "label": [0, 1] * (ROWS // 2)}), path)


@pytest.fixture
def plan(stored_plan, store):
    """The plan of twenty shards, the store without faults, an empty cache folder."""
    store.faults.clear()
    return stored_plan


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_counts_every_image_once(plan, world_size):
    labels = [
        labels
        for rank in range(world_size)
        for _, labels in validation_loader(
            plan, PLAIN, batch_size=4, rank=rank, world_size=world_size, num_loader_workers=0
        )
    ]
    assert torch.cat(labels).tolist() == plan.validation_labels.tolist()


def test_the_disk_holds_few_shards_at_a_time(plan, cache_dir):
    held = [len(list(cache_dir.glob("stream/*/*.arrow"))) for _ in train(plan)]
    assert max(held) <= 3 * WINDOW_SHARDS < NUM_SHARDS
    assert list(cache_dir.glob("stream/*/*.parquet*")) == []


def test_a_worker_fetches_only_its_part(plan, store):
    list(train(plan, rank=1, world_size=3))
    assert 0 < store.faults.served["whole"] <= NUM_SHARDS / 3 + 2


def test_loader_processes_give_the_same_epoch(plan):
    alone = [images for images, _ in train(plan, epoch=2)]
    assert all(
        torch.equal(images, expected)
        for (images, _), expected in zip(train(plan, epoch=2, num_loader_workers=2), alone, strict=True)
    )


def test_an_epoch_may_be_left_in_the_middle(plan):
    loader = train(plan)
    iterator = iter(loader)
    first = next(iterator)[1].tolist()
    del iterator
    assert next(iter(loader))[1].tolist() == first


def test_throttling_and_cut_connections_are_survived_and_told_once(plan, store, cache_dir, caplog):
    expected = digest(train(plan))
    shutil.rmtree(cache_dir)
    store.faults.refuse_every, store.faults.cut_every = 9, 4
    assert digest(train(plan)) == expected
    assert store.faults.served["cut"] > 0
    assert caplog.text.count("transfers were cut and taken up again") == 1


@pytest.mark.faults
def test_a_store_that_is_away_in_an_epoch_is_waited_for(plan, store, cache_dir, monkeypatch):
    impatient = partial(make_client, max_attempts=1)
    monkeypatch.setattr("pipeline.data.streaming.shards.make_client", impatient)
    monkeypatch.setattr(patience, "_PAUSE_S", 0.1)
    expected = digest(train(plan))
    shutil.rmtree(cache_dir)
    batches = iter(train(plan))
    first = next(batches)
    with ThreadPoolExecutor() as pool:
        with store.away():
            rest = pool.submit(list, batches)
            time.sleep(1)
        assert digest([first, *rest.result()]) == expected


def test_shards_that_changed_after_the_check_are_refused(plan, store):
    store.client().put_object(Bucket=BUCKET, Key="twenty/extra.parquet", Body=b"other")
    with pytest.raises(JobError, match="names or sizes of the files in 's3://images/twenty' have changed"):
        train(plan)
    store.client().delete_object(Bucket=BUCKET, Key="twenty/extra.parquet")


def test_a_shard_that_another_worker_dropped_is_fetched_again(plan, s3):
    images = StreamedImages(find_sharded(plan.train_location, s3), plan.train_shard_rows)
    before = images.read(5).tobytes()
    images.shards.drop(1)
    again = StreamedImages(images.shards, plan.train_shard_rows)
    assert again.read(5).tobytes() == before


def test_a_streamed_data_set_pickles_without_images(plan):
    loader = train(plan)
    next(iter(loader))
    assert len(pickle.dumps(loader.dataset)) < 5_000


def test_bad_images_of_shards_are_named(parquet_file, encoded, prepare):
    parquet_file([0, 1, 0, 1], "all/a.parquet")
    images = [encoded(0), b"no image", encoded(1), encoded(2)]
    folder = parquet_file([0, 1, None, 1], "all/b.parquet", images=images).parent
    with pytest.raises(RequestError, match=r"2 of 8") as raised:
        prepare(folder, cache_limit_gib=TINY)
    text = str(raised.value)
    assert "b.parquet row 1: cannot be decoded" in text
    assert "b.parquet row 2: label null" in text


def test_a_shard_without_rows_is_named(parquet_file, prepare):
    parquet_file([0, 1, 0, 1], "all/a.parquet")
    folder = parquet_file([], "all/b.parquet", label_type=pa.int64()).parent
    with pytest.raises(JobError, match=r"a shard must hold images, 'b\.parquet' has 0 rows"):
        prepare(folder, cache_limit_gib=TINY)


def test_the_check_says_how_far_it_is(parquet_file, prepare, caplog):
    caplog.set_level(logging.INFO, logger="pipeline")
    prepare(parquet_file([0, 1] * 4), cache_limit_gib=TINY)
    assert "checked shard 1 of 1, 8 images" in caplog.text


def test_columns_of_streamed_shards_are_checked(store, s3, prepare, tmp_path):
    pq.write_table(pa.table({"img": [b"x"], "label": [0]}), tmp_path / "odd.parquet")
    with pytest.raises(RequestError, match=r"'odd\.parquet' has only the columns img, label"):
        prepare(store.upload(tmp_path / "odd.parquet", "odd"), s3=s3, cache_limit_gib=TINY)


def test_labels_of_streamed_shards_must_be_of_one_kind(store, s3, prepare, parquet_file):
    parquet_file([0, 1], "all/a.parquet")
    location = store.upload(parquet_file(["x", "y"], "all/b.parquet").parent, "mixed-labels")
    with pytest.raises(RequestError, match="'s3://images/mixed-labels' has integers and strings"):
        prepare(location, s3=s3, cache_limit_gib=TINY)


def test_the_check_keeps_no_shard_on_the_disk(store, s3, parquet_file, cache_dir):
    for shard in range(3):
        folder = parquet_file([0, 1] * 4, f"all/{shard}.parquet").parent
    source = ScannedSource(find_sharded(store.upload(folder, "scanned"), s3))
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert str(cache_dir) not in maps.read()
    assert list(cache_dir.glob("stream/*/*.arrow")) == []
    assert len(source) == 24
