import pytest

from pipeline.checks.variation import policy_problems, variation_problems
from pipeline.config import parse_job
from tests.checks.wrong_jobs import changed


@pytest.mark.parametrize(
    "augmentation",
    [
        {},
        {"policy": "trivial"},
        {"policy": "rand-m9-mstd0.5-inc1"},
        {"policy": "rand-m3-n2-p1-inc1"},
        {"policy": "rand-m15-mmax20-tweights"},
        {"policy": "rand-mstd101-t3a"},
        {"policy": "augmix-m5-w4-d2-a0.5-b1"},
        {"policy": "3a", "color_jitter": 0.3},
        {"policy": "original"},
        {"policy": "v0r-mstd0.5"},
        {"color_jitter": 0.4, "erasing": 0.25},
        {"mixup": 0.2},
        {"mixup": 0.8, "cutmix": 1.0, "cutmix_probability": 0.3},
    ],
)
def test_variations_that_timm_carries_out_are_accepted(augmentation):
    assert variation_problems(parse_job(changed({"augmentation": augmentation}))) == []


@pytest.mark.parametrize("crop", ["random_resized", "pad", "none"])
@pytest.mark.parametrize("image_size", [1, 16, 100_000])
def test_every_crop_and_size_is_accepted(crop, image_size):
    assert variation_problems(parse_job(changed({"data.crop": crop, "data.image_size": image_size}))) == []


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("rand-inc", "not 'inc'"),
        ("rand-m9-w3", "not 'w3'"),
        ("rand-m9-p0.0", "p must be above 0"),
        ("rand-mmax0", "mmax must be above 0"),
        ("augmix-m3-d0", "d must be above 0"),
        ("augmix-n2", "augmix takes a number behind each of m, w, d, a, b, mstd, not 'n2'"),
        ("original-rstd1", "original takes a number behind each of mstd, not 'rstd1'"),
        ("rand-tweights-t3a", "t must stand once"),
    ],
)
def test_sections_that_timm_would_not_heed_are_refused(policy, problem):
    (told,) = policy_problems(policy)
    assert problem in told
    assert policy in told
