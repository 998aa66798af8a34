import logging
import multiprocessing
import pickle
import shutil

import pytest
import torch
from PIL import Image

from pipeline.data.loading import set_epoch, train_loader
from pipeline.data.sources import UnreadableImageError, decoded, open_source
from pipeline.data.sources.decoded import DecodedSource, keep_decoded
from pipeline.data.transforms import Preprocessing, train_transform

AUGMENT = train_transform(
    Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear"),
    crop="random_resized",
    flip_probability=0.5,
)


@pytest.fixture
def mixed_folder(image_folder, picture):
    """Images of several sizes and modes."""
    root = image_folder(cat=2, dog=2)
    picture(5, size=40).save(root / "cat" / "large.png")
    picture(6).convert("L").save(root / "dog" / "grey.png")
    Image.new("RGBA", (3, 7), "red").save(root / "dog" / "tall.png")
    return root


def pixels(source):
    """Return mode, size and bytes of every image."""
    images = [source.read(row) for row in range(len(source))]
    return [(image.mode, image.size, image.tobytes()) for image in images]


def test_kept_pixels_are_those_of_the_files(mixed_folder, cache_dir):
    source = open_source(str(mixed_folder))
    kept = DecodedSource(source, 10_000)
    kept.load()
    assert pixels(kept) == pixels(source)
    assert len(list((cache_dir / "pixels").glob("*.arrow"))) == 1


def test_training_sees_the_same_with_and_without_kept_pixels(prepare, parquet_file, monkeypatch):
    plan = prepare(parquet_file([0, 1] * 20))

    def batches():
        loader = train_loader(
            plan, AUGMENT, batch_size=10, rank=0, world_size=1, seed=3, num_loader_workers=0
        )
        set_epoch(loader, 2)
        return [images for images, _ in loader]

    kept = batches()
    monkeypatch.setattr(decoded, "LIMIT_BYTES", 0)
    assert all(torch.equal(*pair) for pair in zip(kept, batches(), strict=True))


def test_pixels_are_decoded_once_a_machine(mixed_folder):
    first = DecodedSource(open_source(str(mixed_folder)), 10_000)
    first.load()
    shutil.rmtree(mixed_folder / "cat")
    second = DecodedSource(first._inner, 10_000)
    second.load()
    assert pixels(second) == pixels(first)


def test_processes_that_start_together_decode_once(mixed_folder, tmp_path):
    source = DecodedSource(open_source(str(mixed_folder)), 10_000)
    decode_all = source._decode_all

    def counted(file):
        with (tmp_path / "count").open("a") as count:
            count.write("x")
        decode_all(file)

    source._decode_all = counted
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=source.load) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "x"


def test_changed_files_are_decoded_again(mixed_folder, picture):
    DecodedSource(open_source(str(mixed_folder)), 10_000).load()
    picture(9).save(mixed_folder / "cat" / "0.png")
    source = DecodedSource(open_source(str(mixed_folder)), 10_000)
    source.load()
    assert source.read(0).tobytes() == picture(9).tobytes()


def test_an_image_that_cannot_be_decoded_is_still_named(mixed_folder):
    (mixed_folder / "cat" / "1.png").write_bytes(b"no image")
    source = DecodedSource(open_source(str(mixed_folder)), 10_000)
    source.load()
    with pytest.raises(UnreadableImageError, match=r"cat/1\.png: cannot be decoded"):
        source.read(1)


def test_a_pickle_holds_no_pixels(mixed_folder):
    source = DecodedSource(open_source(str(mixed_folder)), 10_000)
    source.load()
    again = pickle.loads(pickle.dumps(source))
    again.load()
    assert len(pickle.dumps(source)) < 500
    assert pixels(again) == pixels(source)


def test_a_plan_knows_how_many_pixels_there_are(prepare, mixed_folder):
    plan = prepare(mixed_folder)
    assert plan.train_decoded_bytes == 3 * (5 * 8 * 8 + 40 * 40 + 3 * 7)


@pytest.mark.parametrize("decoded_bytes", [None, 0, decoded.LIMIT_BYTES + 1])
def test_only_small_data_is_kept(mixed_folder, decoded_bytes):
    source = open_source(str(mixed_folder))
    assert keep_decoded(source, decoded_bytes) is source


def test_what_is_in_memory_is_not_kept_again():
    source = open_source("builtin:digits")
    assert keep_decoded(source, 1) is source


@pytest.mark.faults
def test_a_cache_folder_that_cannot_be_written_costs_only_time(mixed_folder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKIPLINE_CACHE_DIR", str(tmp_path / "file"))
    source = DecodedSource(open_source(str(mixed_folder)), 10_000)
    source.load()
    assert pixels(source) == pixels(open_source(str(mixed_folder)))
    assert "images are decoded every epoch: 0 MiB of pixels cannot be kept in" in caplog.text


@pytest.mark.faults
def test_a_full_disk_costs_only_time(mixed_folder, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda _: usage)
    source = DecodedSource(open_source(str(mixed_folder)), 10_000)
    source.load()
    assert source.read(0).size == (8, 8)
    assert "(it has no room)" in caplog.text
