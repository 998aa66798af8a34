import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources import check_location


def only_problem(location):
    """Return the message of a location with exactly one problem."""
    (problem,) = check_location(str(location))
    return problem


@pytest.mark.parametrize("location", ["", "  "])
def test_a_location_must_be_given(location):
    assert "a data location must be given" in only_problem(location)


@pytest.mark.parametrize(
    ("location", "way_out"),
    [
        ("builtin:digit", "did you mean 'builtin:digits'?"),
        ("gs://bucket/data", "copy the data to a local path or to s3://"),
    ],
)
def test_an_unknown_kind_shows_the_way_out(location, way_out):
    assert f"got {location!r}; {way_out}" in only_problem(location)


def test_a_near_miss_of_a_path_is_suggested(image_folder):
    root = image_folder("flowers", cat=1)
    problem = only_problem(root.with_name("flower"))
    assert "flower' does not" in problem
    assert f"did you mean {str(root)!r}?" in problem


def test_a_file_of_another_kind_is_unsupported(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK")
    assert "images.zip'; name the folder or file" in only_problem(tmp_path / "images.zip")


def test_an_empty_folder_holds_no_images(tmp_path):
    assert "holds none (sub-folders: none)" in only_problem(tmp_path)


def test_images_without_class_folders_are_not_enough(image_folder):
    assert "holds none" in only_problem(image_folder(cat=2) / "cat")


def test_a_folder_of_splits_is_not_a_folder_of_classes(image_folder):
    root = image_folder(cat=1)
    for split in ("train", "val"):
        (root.parent / "parts" / split).mkdir(parents=True)
    root.rename(root.parent / "parts" / "train" / "cat")
    problem = only_problem(root.parent / "parts")
    assert "are parts of a data set (train, val)" in problem


def test_shards_of_two_splits_are_not_one_data_set(parquet_file):
    parquet_file([0, 1], name="data/train-00000-of-00001.parquet")
    folder = parquet_file([0, 1], name="data/test-00000-of-00001.parquet").parent
    assert "train-*.parquet'" in only_problem(folder)


def test_every_wrong_column_is_listed(tmp_path):
    pq.write_table(pa.table({"img": [b"x"], "label": [0.5]}), tmp_path / "odd.parquet")
    image, label = check_location(str(tmp_path / "odd.parquet"))
    assert "odd.parquet' has only the columns img, label" in image
    assert "odd.parquet' has label of type double" in label


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    assert "cut.parquet' is not" in only_problem(tmp_path / "cut.parquet")


def test_parquet_without_rows_is_empty(parquet_file):
    assert "has 0 rows" in only_problem(parquet_file([], label_type=pa.int64()))


def test_labels_of_all_files_must_be_of_one_kind(parquet_file):
    parquet_file([0, 1], name="all/a.parquet")
    folder = parquet_file(["x", "y"], name="all/b.parquet").parent
    assert "has integers and strings" in only_problem(folder)


def test_a_pattern_without_a_match_is_reported(tmp_path):
    assert "matches none" in only_problem(tmp_path / "train-*.parquet")
