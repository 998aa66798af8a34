import numpy as np
import pytest

from pipeline.data.plan import DataPlan
from pipeline.errors import RequestError


def counts(labels):
    return np.bincount(labels).tolist()


def test_the_split_keeps_the_proportion_of_classes(prepare, image_folder):
    plan = prepare(image_folder(cat=8, dog=4))
    assert (counts(plan.train_labels), counts(plan.validation_labels)) == ([6, 3], [2, 1])


def test_no_image_both_trains_and_validates(digits_plan):
    rows = np.concatenate([digits_plan.train_rows, digits_plan.validation_rows])
    assert np.array_equal(np.sort(rows), np.arange(1797))


def test_the_same_seed_gives_the_same_plan(prepare, digits_plan):
    assert prepare("builtin:digits").fingerprint == digits_plan.fingerprint


def test_another_seed_gives_another_split(prepare, digits_plan):
    assert prepare("builtin:digits", seed=1).fingerprint != digits_plan.fingerprint


def test_given_validation_data_is_used_whole(prepare, image_folder):
    train, validation = image_folder("train", cat=2, dog=1), image_folder("val", cat=1, dog=3)
    plan = prepare(train, validation)
    assert (counts(plan.train_labels), counts(plan.validation_labels)) == ([2, 1], [1, 3])
    assert plan.validation_location == str(validation)


def test_validation_labels_are_matched_by_name(prepare, parquet_file):
    train = parquet_file(["ant", "bee", "cow"], name="a.parquet")
    validation = parquet_file([0, 1, 2], name="b.parquet", class_names=["cow", "ant", "bee"])
    assert prepare(train, validation).validation_labels.tolist() == [2, 0, 1]


def test_progress_counts_every_image_once(prepare, image_folder):
    calls = []
    prepare(image_folder(cat=70, dog=4), on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (74, 74)


def test_a_relative_location_is_stored_absolute(prepare, image_folder, monkeypatch):
    root = image_folder(cat=4, dog=4)
    monkeypatch.chdir(root.parent)
    assert prepare("images").train_location == str(root)


def test_a_stored_plan_is_the_same_plan(digits_plan, tmp_path):
    digits_plan.save(tmp_path / "new" / "plan.npz")
    loaded = DataPlan.load(tmp_path / "new" / "plan.npz")
    assert loaded.fingerprint == digits_plan.fingerprint
    assert loaded.class_names == digits_plan.class_names
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["plan.npz"]


def test_a_plan_cut_short_is_refused(digits_plan, tmp_path):
    digits_plan.save(tmp_path / "plan.npz")
    (tmp_path / "plan.npz").write_bytes((tmp_path / "plan.npz").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"plan\.npz' is not"):
        DataPlan.load(tmp_path / "plan.npz")


@pytest.mark.parametrize("fraction", [0.001, 0.1, 1.0])
def test_a_part_of_the_plan_keeps_every_class(digits_plan, fraction):
    part = digits_plan.take(fraction, seed=0)
    assert len(np.unique(part.train_labels)) == len(np.unique(part.validation_labels)) == 10
    assert len(part.train_rows) == pytest.approx(max(10, fraction * len(digits_plan.train_rows)), abs=5)


def test_a_part_of_the_plan_follows_from_the_seed(digits_plan):
    first, again, other = (digits_plan.take(0.1, seed=seed).fingerprint for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("fraction", [0, 1.5, float("nan")])
def test_a_part_must_be_a_fraction(digits_plan, fraction):
    with pytest.raises(ValueError, match=rf"\(0, 1\], got {fraction}"):
        digits_plan.take(fraction, seed=0)


def test_all_problems_of_a_request_are_listed_at_once(prepare, tmp_path):
    with pytest.raises(RequestError, match="must exist") as raised:
        prepare(tmp_path / "no", validation_fraction=1.0, bad_items="ignore", max_bad_fraction=2)
    text = str(raised.value)
    assert len(raised.value.problems) == 4
    assert all(value in text for value in ("got 1.0", "'ignore'", "got 2;", "no' does not"))


def test_training_images_cannot_validate(prepare):
    with pytest.raises(RequestError, match="both locations are 'builtin:digits'"):
        prepare("builtin:digits", "builtin:digits")


def test_one_class_is_not_enough(prepare, image_folder):
    with pytest.raises(RequestError, match=r"at least 2 classes, .* has only 'cat' in 3 images"):
        prepare(image_folder(cat=3))


def test_a_class_needs_two_images_to_be_split(prepare, image_folder):
    with pytest.raises(RequestError, match=r"class 'dog' of .* has 1;"):
        prepare(image_folder(cat=8, dog=1))


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.97])
def test_every_class_needs_an_image_on_both_sides(prepare, image_folder, fraction):
    with pytest.raises(RequestError, match=r"'dog' has 4 images\); write a fraction from 0\.25 to 0\.75"):
        prepare(image_folder(cat=40, dog=4), validation_fraction=fraction)
