import io
import json
import os
import tarfile

import pyarrow as pa
import pytest
from PIL import Image

from pipeline.data.sources import UnreadableImageError, check_location, open_source, tar
from pipeline.data.sources.labels import as_integers
from pipeline.errors import RequestError


def test_files_of_one_stem_are_a_sample(tar_file, encoded):
    path = tar_file({"a/1.cls": b"3\n", "a/1.jpg": encoded(1), "b/1.jpg": encoded(2), "b/1.cls": b"5"})
    source = open_source(str(path))
    assert [source.where(row) for row in (0, 1)] == ["train-000.tar a/1.jpg", "train-000.tar b/1.jpg"]
    assert (source.class_names, source.labels.tolist()) == (("3", "5"), [0, 1])


def test_an_image_is_the_one_that_was_put_in(tar_samples, encoded):
    source = open_source(str(tar_samples([0, 1, 0])))
    assert source.read(2).tobytes() == Image.open(io.BytesIO(encoded(2, "JPEG"))).tobytes()


@pytest.mark.parametrize(("label", "name"), [("cat", "cat"), (7, "7")])
def test_a_label_may_stand_in_json(tar_file, encoded, label, name):
    path = tar_file({"1.webp": encoded(1, "WEBP"), "1.json": json.dumps({"label": label, "id": 1}).encode()})
    assert open_source(str(path)).class_names == (name,)


@pytest.mark.parametrize("content", [b"no json", b"[]", b"{}", b'{"label": 0.5}', b'{"label": true}'])
def test_json_without_a_label_is_an_unknown_label(tar_file, encoded, content):
    source = open_source(str(tar_file({"1.jpg": encoded(1), "1.json": content})))
    assert (source.labels.tolist(), source.raw_label(0)) == ([-1], "null")


@pytest.mark.parametrize(
    ("labels", "expected"), [([1, 0, 2], [1, 0, -1]), (["bee", "ant", "fly"], [1, 0, -1])]
)
def test_a_class_file_beside_the_shards_names_the_classes(tar_samples, labels, expected):
    path = tar_samples(labels)
    (path.parent / "classes.txt").write_text("ant\nbee\n")
    source = open_source(str(path))
    assert (source.class_names, source.labels.tolist()) == (("ant", "bee"), expected)


def test_integers_are_ordered_by_value_over_all_shards(tar_samples):
    tar_samples([10, 2], "train-000.tar")
    source = open_source(str(tar_samples([2], "train-001.tar").parent))
    assert (source.class_names, source.labels.tolist()) == (("2", "10"), [1, 0, 0])
    assert source.where(2) == "train-001.tar 000000.jpg"


def test_more_shards_than_may_be_open_are_read(tar_samples, monkeypatch):
    monkeypatch.setattr(tar, "_MAX_OPEN_SHARDS", 1)
    folders = [tar_samples([0, 1], f"train-{shard:03}.tar").parent for shard in range(3)]
    source = open_source(str(folders[0]))
    assert len({source.read(row).tobytes() for row in range(6)}) == 2
    assert len(source._reader._open) == 1


def test_a_source_leaves_no_file_open(tar_samples):
    path = str(tar_samples([0, 1]))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    open_source(path).read(0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208 - the last one's index is mapped


@pytest.mark.parametrize("members", [["1.cls"], ["1.cls", "1.jpg", "1.png"]])
def test_a_sample_must_have_one_image(tar_file, encoded, members):
    path = tar_file({name: b"0" if name == "1.cls" else encoded(0) for name in members})
    with pytest.raises(UnreadableImageError, match=r"train-000\.tar 1: the sample must have one image"):
        open_source(str(path)).read(0)


def test_other_members_are_no_samples(tar_file, encoded):
    path = tar_file(
        {"README": b"", "meta.json": b"{}", "._1.jpg": b"", "1.jpg": encoded(1), "1.txt": b"a cat"}
    )
    assert len(open_source(str(path))) == 1


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_file_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "odd.tar", "w") as shard:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        shard.addfile(member)
    with pytest.raises(RequestError, match=r"odd\.tar' is not \('1\.jpg' is a link, a device"):
        open_source(str(tmp_path / "odd.tar"))


def test_a_shard_cut_short_is_refused_and_not_remembered(tar_samples, cache_dir):
    path = tar_samples([0, 1])
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 + 100])
    with pytest.raises(RequestError, match=r"train-000\.tar' is not \(unexpected end of data\)"):
        open_source(str(path))
    assert list((cache_dir / "tar-index").glob("*.arrow")) == []


def test_shards_are_scanned_once(tar_samples, monkeypatch):
    path = str(tar_samples([0, 1]))
    first = open_source(path)
    monkeypatch.setattr(tarfile.TarFile, "__iter__", None)
    assert open_source(path).read(1).tobytes() == first.read(1).tobytes()


def test_a_changed_shard_is_scanned_again(tar_samples):
    path = str(tar_samples([0, 1]))
    assert len(open_source(path)) == 2
    tar_samples([0, 1, 1])
    assert len(open_source(path)) == 3


def test_a_compressed_shard_is_refused(tmp_path):
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as shard:
        shard.addfile(tarfile.TarInfo("1.jpg"))
    (problem,) = check_location(str(tmp_path / "packed.tar"))
    assert "must be a readable, uncompressed tar file" in problem


def test_shards_of_training_and_validation_are_not_one_data_set(tar_samples):
    tar_samples([0], "imagenet-train-000.tar")
    (problem,) = check_location(str(tar_samples([0], "imagenet-val-000.tar").parent))
    assert "holds train, validation; write a pattern such as" in problem


def test_tar_shards_make_a_plan(prepare, tar_samples):
    plan = prepare(tar_samples(["cat", "dog"] * 8))
    assert (plan.class_names, len(plan.train_rows), len(plan.validation_rows)) == (("cat", "dog"), 12, 4)


def test_labels_are_text_unless_all_are_integers():
    assert as_integers(pa.array(["1", None, "x"])).to_pylist() == ["1", None, "x"]
    assert as_integers(pa.array(["1", None, "02"])).to_pylist() == [1, None, 2]
