"""Every path through the stages has running statistics of its own, once a network was calibrated."""

import copy

import pytest
import torch
from torch import nn

from pipeline.evaluation.calibration import calibrate
from pipeline.networks import NetworkDescription, adaptive
from pipeline.networks.cost import count_segment_macs
from pipeline.networks.norms import NORMS
from pipeline.networks.statistics import keeps_statistics
from tests.networks.instances import EXEMPLARS, INSTANCES
from tests.networks.training import as_after_some_training

CPU = torch.device("cpu")


def batches(network, num_images=4, count=3):
    generator = torch.Generator().manual_seed(1)
    return [1 + 2 * torch.rand(num_images, *network.input_shape, generator=generator) for _ in range(count)]


def trained(description):
    torch.manual_seed(0)
    return as_after_some_training(description.build())


def test_multiply_adds_are_counted_once_for_a_network_and_its_copies(monkeypatch):
    counted = []
    monkeypatch.setattr(
        adaptive, "count_segment_macs", lambda network: counted.append(1) or count_segment_macs(network)
    )
    network = INSTANCES["ResNet"][0].build()
    copies = [calibrate(network, batches(network, count=1), device=CPU) for _ in range(2)]
    assert {one.macs("base") for one in (*copies, network)} == {network.cost("base").macs}
    assert len(counted) == 1


def with_statistics_of_its_own(subnetwork, images):
    """Return a static network whose statistics are means over batches that run through it alone."""
    module = copy.deepcopy(subnetwork).eval()
    norms = [norm for norm in module.modules() if keeps_statistics(norm)]
    for count, batch in enumerate(images, start=1):
        for norm in norms:
            norm.train()
            norm.momentum = 1 / count
        module(batch)
    return module.eval()


def statistics(module):
    return {
        name: buffer
        for name, buffer in module.state_dict().items()
        if name.endswith(("running_mean", "running_var"))
    }


@pytest.mark.parametrize(
    "description",
    [
        pytest.param(first, marks=[] if family in EXEMPLARS else [pytest.mark.slow])
        for family, (first, *_) in INSTANCES.items()
    ],
    ids=lambda description: description.backbone,
)
@torch.no_grad()
def test_the_statistics_of_a_depth_are_those_that_it_would_take_alone(description):
    network = trained(description)
    images = batches(network)
    calibrated = calibrate(network, images, device=CPU)
    (middle, *_), logits = network.profiles[1:-1] or network.profiles, {}
    for profile in {*network.extremes, middle, network.profiles[-2]}:
        alone = with_statistics_of_its_own(network.subnetwork(profile), images)
        subnetwork = calibrated.subnetwork(profile)
        torch.testing.assert_close(statistics(subnetwork), statistics(alone), rtol=1e-4, atol=1e-5)
        logits[profile] = subnetwork(images[0])
        torch.testing.assert_close(calibrated(images[0], profile), logits[profile], rtol=0, atol=0)
    together = calibrated.forward_profiles(images[0], list(logits))
    torch.testing.assert_close(together, logits, rtol=0, atol=0)


RESNET = NetworkDescription(
    "resnet18",
    5,
    image_size=32,
    kwargs={"layers": [2, 2, 2, 2], "channels": [8, 8, 16, 16], "zero_init_last": False},
)


@pytest.fixture
def network():
    return trained(RESNET)


@pytest.fixture
def calibrated(network):
    return calibrate(network, batches(network), device=CPU)


@torch.no_grad()
def test_calibration_leaves_the_network_and_all_weights_as_they_are(network):
    before = copy.deepcopy(network.state_dict())
    calibrated = calibrate(network, batches(network), device=CPU)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(
        dict(calibrated.named_parameters()), dict(network.named_parameters()), rtol=0, atol=0
    )
    assert not calibrated.training
    assert {norm.momentum for norm in calibrated.statistic_norms()} == {0.1}


@torch.no_grad()
def test_a_state_dict_restores_the_statistics_of_every_path(calibrated):
    again = calibrated.description.build().eval()
    again.load_state_dict(calibrated.state_dict())
    (images, *_) = batches(calibrated)
    for profile in calibrated.profiles:
        torch.testing.assert_close(again(images, profile), calibrated(images, profile), rtol=0, atol=0)


def test_the_two_extremes_keep_theirs_where_the_norms_are(calibrated):
    sets = [name.split(".")[1:] for name in calibrated.state_dict() if name.startswith("path_statistics.")]
    mixed = {path for stage in (2, 3, 4) for path in calibrated.paths(stage) if len(set(path)) == 2}
    assert mixed == {path for path, *_ in sets if set(path) != {"T"}}
    # A shortcut has one norm for both.
    assert {"downsample"} == {norm[2] for path, *norm in sets if set(path) == {"T"}}


@torch.no_grad()
def test_a_networks_own_statistics_are_the_start(network):
    separate = network.with_path_statistics()
    (images, *_) = batches(network)
    for profile in network.profiles:
        torch.testing.assert_close(separate(images, profile), network(images, profile), rtol=0, atol=0)


@torch.no_grad()
def test_statistics_follow_a_network_to_another_type(calibrated):
    (images, *_) = batches(calibrated)
    expected = calibrated(images, "TFTF")
    moved = calibrated.to(torch.float64)
    torch.testing.assert_close(moved(images.double(), "TFTF").float(), expected, rtol=1e-4, atol=1e-4)
    norms = [norm for norm in moved.subnetwork("TFTF").modules() if isinstance(norm, nn.BatchNorm2d)]
    assert {norm.running_mean.dtype for norm in norms} == {torch.float64}


def test_training_a_mixed_depth_leaves_the_statistics_of_the_others(network):
    separate = network.with_path_statistics().train()
    before = {
        profile: copy.deepcopy(statistics(separate.subnetwork(profile))) for profile in network.profiles
    }
    separate(batches(network)[0], "TFTF")
    after = {profile: statistics(separate.subnetwork(profile)) for profile in network.profiles}
    last_norm = {profile: max(name for name in after[profile] if "layer4" in name) for profile in after}
    changed = [
        str(profile)
        for profile in network.profiles
        if not torch.equal(before[profile][last_norm[profile]], after[profile][last_norm[profile]])
    ]
    assert changed == ["TFTF"]


@torch.no_grad()
def test_a_network_whose_norms_remember_nothing_stays_what_it_is():
    network = trained(INSTANCES["VisionTransformer"][0])
    images = batches(network)
    calibrated = calibrate(network, images, device=CPU)
    assert calibrated.state_dict().keys() == network.state_dict().keys()
    torch.testing.assert_close(calibrated(images[0], "base"), network(images[0], "base"), rtol=0, atol=0)


def test_calibration_without_images_is_refused(network):
    with pytest.raises(ValueError, match="at least one batch of images, got none"):
        calibrate(network, [], device=CPU)


def test_what_keeps_statistics_is_a_norm():
    assert keeps_statistics(nn.BatchNorm2d(4))
    assert not keeps_statistics(nn.BatchNorm2d(4, track_running_stats=False))
    assert not keeps_statistics(nn.LayerNorm(4))
    assert nn.BatchNorm2d not in NORMS  # it is found by its base class
