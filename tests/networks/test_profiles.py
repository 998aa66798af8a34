import pytest

from pipeline.networks.profiles import DepthProfile, StageSize, resolve_split, virtual_stages


def sizes(*num_blocks):
    return tuple(StageSize(blocks) for blocks in num_blocks)


def test_profiles_start_with_full_and_end_with_base():
    profiles = [str(profile) for profile in DepthProfile.enumerate(2)]
    assert profiles == ["FF", "FT", "TF", "TT"]


@pytest.mark.parametrize(("text", "letters"), [("full", "FFF"), ("base", "TTT"), ("TFT", "TFT")])
def test_a_profile_is_read_from_its_name_or_its_letters(text, letters):
    assert str(DepthProfile.parse(text, num_stages=3)) == letters


def test_a_letter_skips_its_own_stage():
    profile = DepthProfile("TFF")
    assert [profile.skips(stage) for stage in range(3)] == [True, False, False]


def test_only_full_and_base_are_extremes():
    assert [profile.is_extreme for profile in DepthProfile.enumerate(2)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_profile_of_the_wrong_length_says_what_to_write():
    with pytest.raises(ValueError, match=r"'TFF' has 3 letters, resnet50 has 4 .* such as 'TFFF'"):
        DepthProfile.parse("TFF", num_stages=4, network="resnet50")


@pytest.mark.parametrize("text", ["", "tf", "FX", "fulll"])
def test_other_letters_are_refused(text):
    with pytest.raises(ValueError, match=f"T and F, got {text!r}"):
        DepthProfile.parse(text, num_stages=2)


@pytest.mark.parametrize(
    ("blocks", "split"),
    [
        ((3, 4, 6, 3), (2, 2, 3, 2)),  # ResNet-50
        ((2, 2, 6, 2), (1, 1, 3, 1)),  # Swin-T
        ((2, 3, 4, 3, 3), (1, 2, 2, 2, 2)),  # MobileNetV2
        ((3, 3, 3, 3), (2, 2, 2, 2)),  # ViT-B/16
        ((1, 2), (1, 1)),
    ],
)
def test_the_papers_split_is_the_published_one(blocks, split):
    assert resolve_split("paper", sizes(*blocks), network="a network") == split


@pytest.mark.parametrize(
    ("blocks", "stages"),
    [(12, (3, 3, 3, 3)), (24, (6, 6, 6, 6)), (10, (3, 3, 2, 2)), (5, (3, 2)), (2, (2,)), (1, (1,))],
)
def test_virtual_stages_cover_all_blocks_with_two_or_more_each(blocks, stages):
    assert virtual_stages(blocks, network="a network") == stages


def test_a_split_needs_one_point_a_stage():
    with pytest.raises(ValueError, match=r"got 2 in \[1, 2\], net has 4 stages .* such as \[2, 2, 3, 2\]"):
        resolve_split([1, 2], sizes(3, 4, 6, 3), network="net")


@pytest.mark.parametrize("point", [0, 4, -1, True, 1.5])
def test_a_split_point_outside_its_stage_is_refused(point):
    with pytest.raises(ValueError, match=f"got {point!r} for stage 2 of net, which has 3 blocks"):
        resolve_split([1, point], sizes(2, 3), network="net")


def test_a_network_that_can_skip_nothing_is_refused():
    with pytest.raises(ValueError, match=r"at least one stage must be skippable, got the split \[2, 3\]"):
        resolve_split([2, 3], sizes(2, 3), network="net")


def test_a_split_point_that_would_skip_a_block_that_must_stay_is_refused():
    with pytest.raises(
        ValueError, match="got the split point 3 for stage 1 of net, whose first 4 of 5 blocks"
    ):
        resolve_split([3], [StageSize(5, min_mandatory=4)], network="net")


def test_the_papers_split_keeps_the_blocks_that_must_stay():
    stages = [StageSize(7, min_mandatory=6), StageSize(3, min_mandatory=3), StageSize(6)]
    assert resolve_split("paper", stages, network="net") == (6, 3, 3)


@pytest.mark.parametrize("num_stages", [0, 7, 9])
def test_a_number_of_virtual_stages_that_does_not_fit_is_refused(num_stages):
    with pytest.raises(ValueError, match=f"got {num_stages} for the 12 blocks of net; choose 1 to 6"):
        virtual_stages(12, num_stages, network="net")


def test_the_number_of_virtual_stages_can_be_chosen():
    assert virtual_stages(12, 6, network="net") == (2, 2, 2, 2, 2, 2)
