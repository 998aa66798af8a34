import pytest

from pipeline.errors import RequestError


@pytest.fixture
def broken_folder(image_folder):
    """Twenty images of two classes, of which one is cut short, and a class without images."""
    root = image_folder(cat=10, dog=10, emu=0)
    cut = root / "cat" / "3.png"
    cut.write_bytes(cut.read_bytes()[:60])
    return root


def test_a_corrupt_image_and_an_empty_class_fail_with_their_names(prepare, broken_folder):
    with pytest.raises(RequestError, match=r"1 of 20 in .*\n  cat/3\.png: cannot be decoded") as raised:
        prepare(broken_folder)
    assert "class 'emu' of" in raised.value.problems[1]


def test_skipped_items_are_left_out_and_described(prepare, broken_folder):
    plan = prepare(broken_folder, bad_items="skip", max_bad_fraction=0.05)
    assert len(plan.train_rows) + len(plan.validation_rows) == 19
    assert plan.class_names == ("cat", "dog")
    assert [line.split()[:2] for line in plan.skipped] == [
        ["cat/3.png:", "cannot"],
        ["class", "'emu'"],
    ]


def test_more_bad_images_than_allowed_fail_with_the_fraction_needed(prepare, broken_folder):
    with pytest.raises(RequestError, match=r"a fraction of 0\.04 .*max_bad_fraction of at least 0\.05"):
        prepare(broken_folder, bad_items="skip", max_bad_fraction=0.04)


def test_at_most_ten_bad_images_are_listed(prepare, parquet_file, encoded):
    path = parquet_file([0, 1] * 8, images=[b"no image"] * 12 + [encoded(row) for row in range(4)])
    with pytest.raises(RequestError, match="12 of 16") as raised:
        prepare(path)
    listed = raised.value.problems[0].splitlines()
    assert (listed[10].split(":")[0], listed[11]) == ("  train.parquet row 9", "  and 2 more")


def test_a_truncated_jpeg_is_found(prepare, parquet_file, encoded):
    images = [encoded(row, "JPEG") for row in range(8)]
    images[5] = images[5][: len(images[5]) // 2]
    with pytest.raises(RequestError, match=r"train\.parquet row 5: cannot be decoded"):
        prepare(parquet_file([0, 1] * 4, images=images))


def test_a_null_label_is_named_by_its_row(prepare, parquet_file):
    with pytest.raises(RequestError, match=r"train\.parquet row 2: label null is none of the classes \("):
        prepare(parquet_file([0, 1, None, 0, 1]))


def test_a_validation_label_that_training_lacks_is_named(prepare, parquet_file):
    train = parquet_file(["ant", "bee"], name="train.parquet")
    validation = parquet_file(["ant", "bee", "cow"], name="val.parquet")
    with pytest.raises(RequestError, match=r"val\.parquet row 2: label 'cow' is none of .*\(ant, bee\)"):
        prepare(train, validation)


def test_a_class_that_is_never_validated_fails(prepare, image_folder):
    with pytest.raises(RequestError, match="class 'dog' has no usable image in the validation data"):
        prepare(image_folder("train", cat=2, dog=2), image_folder("val", cat=2))


def test_a_class_that_is_never_validated_can_be_accepted(prepare, image_folder):
    plan = prepare(image_folder("train", cat=2, dog=2), image_folder("val", cat=2), bad_items="skip")
    assert plan.class_names == ("cat", "dog")
    assert "class 'dog' has no usable image in the validation data" in plan.skipped[0]


def test_a_class_of_corrupt_images_only_is_never_skipped(prepare, image_folder):
    root = image_folder(cat=4, dog=4, emu=2)
    for image in (root / "emu").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(RequestError, match=r"class 'emu' of .* has 0;"):
        prepare(root, bad_items="skip", max_bad_fraction=0.5)
