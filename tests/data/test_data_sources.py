import pickle

import numpy as np
import pytest
from torch._utils import ExceptionWrapper

from pipeline.data.sources import UnreadableImageError, arrow_images, check_location, open_source
from pipeline.errors import RequestError


@pytest.fixture(params=["digits", "folder", "parquet", "tar", "saved_to_disk"])
def location(request, image_folder, parquet_file, tar_samples, saved_to_disk):
    if request.param == "digits":
        return "builtin:digits"
    if request.param == "folder":
        return str(image_folder(cat=3, dog=2))
    if request.param == "tar":
        return str(tar_samples([0, 1, 0, 1, 0]))
    if request.param == "saved_to_disk":
        return str(saved_to_disk([0, 1, 0, 1, 0]))
    return str(parquet_file([0, 1, 0, 1, 0]))


def test_every_source_gives_rgb_images_and_one_label_a_row(location):
    source = open_source(location)
    assert source.read(len(source) - 1).mode == "RGB"
    assert source.labels.shape == (len(source),)
    assert source.labels.dtype == np.int64


def test_a_source_reopened_from_its_pickle_is_the_same(location):
    source = open_source(location)
    source.read(0)
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint == source.fingerprint
    assert again.read(1).tobytes() == source.read(1).tobytes()


def test_a_pickle_holds_no_image_bytes(location):
    source = open_source(location)
    source.read(0)
    assert len(pickle.dumps(source)) < 500


def test_digits_are_all_there():
    source = open_source("builtin:digits")
    assert len(source) == 1797
    assert source.class_names == tuple("0123456789")


def test_a_folder_names_classes_and_files(image_folder):
    root = image_folder(dog=1, cat=2)
    source = open_source(str(root))
    assert source.class_names == ("cat", "dog")
    assert [source.where(row) for row in range(3)] == ["cat/0.png", "cat/1.png", "dog/0.png"]


def test_a_folder_ignores_hidden_and_other_files(image_folder):
    root = image_folder(cat=1, dog=1)
    (root / "cat" / ".hidden.png").write_bytes(b"")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / ".cache").mkdir()
    source = open_source(str(root))
    assert (len(source), source.class_names) == (2, ("cat", "dog"))


def test_folder_images_may_lie_deeper(image_folder):
    root = image_folder(cat=1, dog=1)
    (root / "cat" / "0.png").rename((root / "cat").joinpath("young").with_suffix(".png"))
    (root / "cat" / "old").mkdir()
    (root / "cat" / "young.png").rename(root / "cat" / "old" / "1.png")
    assert open_source(str(root)).where(0) == "cat/old/1.png"


def test_integer_labels_become_names_in_order_of_value(parquet_file):
    source = open_source(str(parquet_file([10, 2, 10, 2])))
    assert source.class_names == ("2", "10")
    assert source.labels.tolist() == [1, 0, 1, 0]


def test_string_labels_become_names(parquet_file):
    source = open_source(str(parquet_file(["dog", "cat"])))
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [1, 0]


def test_declared_class_names_are_used(parquet_file):
    source = open_source(str(parquet_file([1, 0], class_names=["zebra", "ant"])))
    assert source.class_names == ("zebra", "ant")
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize("label", [None, -1, 2])
def test_a_label_without_a_declared_name_is_unknown(parquet_file, label):
    source = open_source(str(parquet_file([0, label], class_names=["ant", "bee"])))
    assert source.labels.tolist() == [0, -1]


def test_rows_of_several_files_are_counted_file_by_file(parquet_file):
    parquet_file([0, 1, 0], name="all/a.parquet")
    folder = parquet_file([1, 0], name="all/b.parquet").parent
    source = open_source(str(folder))
    assert [source.where(row) for row in (2, 3)] == ["a.parquet row 2", "b.parquet row 0"]
    assert source.read(3).tobytes() == source.read(0).tobytes()


def test_a_pattern_chooses_files(parquet_file):
    parquet_file([0, 1], name="data/train-00000-of-00001.parquet")
    parquet_file([0, 1, 1], name="data/test-00000-of-00001.parquet")
    assert len(open_source(str(parquet_file([0], name="x.parquet").parent / "data" / "train-*.parquet"))) == 2


def test_large_parquet_is_memory_mapped_from_one_cached_file(parquet_file, cache_dir, monkeypatch):
    location = str(parquet_file([0, 1, 0, 1, 0, 1]))
    in_memory = [open_source(location).read(row).tobytes() for row in range(6)]
    monkeypatch.setattr(arrow_images, "IN_MEMORY_LIMIT_BYTES", 0)
    sources = open_source(location), open_source(location)
    assert all([source.read(row).tobytes() for row in range(6)] == in_memory for source in sources)
    assert len(list((cache_dir / "images").glob("*.arrow"))) == 1


@pytest.mark.parametrize("change", ["add", "remove", "rewrite"])
def test_the_fingerprint_changes_with_the_files(image_folder, change):
    root = image_folder(cat=2, dog=2)
    before = open_source(str(root)).fingerprint
    if change == "add":
        (root / "cat" / "2.png").write_bytes(b"")
    elif change == "remove":
        (root / "cat" / "1.png").unlink()
    else:
        (root / "cat" / "1.png").write_bytes(b"other")
    assert open_source(str(root)).fingerprint != before


def test_an_unreadable_image_names_its_file(image_folder):
    root = image_folder(cat=1, dog=1)
    (root / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"cat/0\.png: cannot be decoded \(not an image"):
        open_source(str(root)).read(0)


def test_a_truncated_image_names_its_row(parquet_file):
    from_row_0 = open_source(str(parquet_file([0])))._images().encoded(0)
    path = parquet_file([0, 1], images=[bytes(from_row_0), bytes(from_row_0)[:-200]])
    with pytest.raises(UnreadableImageError, match=r"train\.parquet row 1: cannot be decoded"):
        open_source(str(path)).read(1)


def test_missing_image_bytes_name_their_row(parquet_file):
    with pytest.raises(UnreadableImageError, match=r"train\.parquet row 0: image\.bytes is null"):
        open_source(str(parquet_file([0], images=[None]))).read(0)


def test_an_error_of_an_image_survives_pickling():
    error = pickle.loads(pickle.dumps(UnreadableImageError("cat/0.png: cut short")))
    assert (type(error), str(error)) == (UnreadableImageError, "cat/0.png: cut short")


def test_an_error_of_an_image_keeps_its_type_on_the_way_out_of_a_loader_process():
    # A real loader process is not failed here: torch then waits 5 s for it to end.
    error = UnreadableImageError("cat/0.png: cut short")
    wrapped = ExceptionWrapper((type(error), error, None), where="in a loader process")
    with pytest.raises(UnreadableImageError, match=r"cat/0\.png: cut short"):
        wrapped.reraise()


def test_opening_a_bad_location_raises_its_problems(tmp_path):
    with pytest.raises(RequestError, match=r"must exist, '.*nothing' does not"):
        open_source(str(tmp_path / "nothing"))


def test_a_good_location_has_no_problem(location):
    assert check_location(location) == []
