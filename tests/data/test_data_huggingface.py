import json

import pyarrow as pa
import pytest

from pipeline.data.sources import UnreadableImageError, check_location, open_source
from pipeline.errors import RequestError


def only_problem(location):
    """Return the message of a location with exactly one problem."""
    (problem,) = check_location(str(location))
    return problem


def test_a_saved_data_set_names_its_classes(saved_to_disk):
    source = open_source(str(saved_to_disk([1, 0, None])))
    assert (source.class_names, source.labels.tolist()) == (("ant", "bee"), [1, 0, -1])
    assert source.where(2) == "saved/train row 2"


def test_rows_of_several_files_follow_each_other(saved_to_disk):
    one, three = saved_to_disk([0, 1] * 3, name="one"), saved_to_disk([0, 1] * 3, name="three", num_files=3)
    first, second = open_source(str(one)), open_source(str(three))
    assert [second.read(row).tobytes() for row in range(6)] == [
        first.read(row).tobytes() for row in (0, 3, 1, 4, 2, 5)
    ]


def test_the_image_column_is_found_by_its_feature(saved_to_disk):
    assert open_source(str(saved_to_disk([0, 1], image_column="img"))).read(1).size == (32, 32)


def test_an_image_without_bytes_names_its_row(saved_to_disk, encoded):
    root = saved_to_disk([0, 1])
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": encoded(0), "path": None}], image_type)
    table = pa.table({"image": images, "label": pa.array([0, 1], pa.int64())})
    with pa.ipc.new_stream(root / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(UnreadableImageError, match="saved/train row 0: the image has no bytes"):
        open_source(str(root)).read(0)


def test_a_folder_of_splits_names_them(saved_to_disk):
    saved_to_disk([0, 1], name="saved/test")
    root = saved_to_disk([0, 1], name="saved/train").parent
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    problem = only_problem(root)
    assert f"holds several (test, train); name {str(root / 'train')!r}" in problem


def test_a_data_file_outside_the_folder_is_refused(saved_to_disk):
    root = saved_to_disk([0, 1])
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../other.arrow"}]}))
    assert "names a file outside the folder, '../other.arrow'" in only_problem(root)


def test_rows_chosen_by_an_index_are_refused(saved_to_disk):
    root = saved_to_disk([0, 1])
    state = {
        "_data_files": [{"filename": "data-00000-of-00001.arrow"}],
        "_indices_data_files": [{"filename": "indices.arrow"}],
    }
    (root / "state.json").write_text(json.dumps(state))
    assert "its rows are chosen by an index file" in only_problem(root)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"text": {"_type": "Value"}}, "must name one column of the feature Image, it names none"),
        ({"image": {"_type": "Image"}}, "must name one column of labels, it names none"),
        ({"image": {"_type": "Image"}, "label": {}, "list": []}, ""),
    ],
)
def test_columns_must_be_described(saved_to_disk, features, message):
    root = saved_to_disk([0, 1])
    (root / "dataset_info.json").write_text(json.dumps({"features": features}))
    assert message in "".join(check_location(str(root)))


@pytest.mark.parametrize("file", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_broken_file_is_a_problem_of_the_request(saved_to_disk, file):
    root = saved_to_disk([0, 1])
    (root / file).write_bytes(b"{")
    with pytest.raises(RequestError, match="a saved Hugging Face data set must hold images with labels"):
        open_source(str(root))


def test_a_saved_data_set_makes_a_plan(prepare, saved_to_disk):
    plan = prepare(saved_to_disk([0, 1] * 8))
    assert (len(plan.train_rows), len(plan.validation_rows)) == (12, 4)
