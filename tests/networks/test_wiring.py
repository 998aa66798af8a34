"""Whatever is done to a network reaches both of its forms."""

import copy
import pickle

import cloudpickle
import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.networks import NetworkDescription
from pipeline.recipe import DistillationConfig
from pipeline.training.step import SelfDistillation

TINY_VIT = {"depth": 4, "embed_dim": 32, "num_heads": 2}
NETWORKS = {
    "resnet": NetworkDescription(
        "resnet18", 5, image_size=64, kwargs={"channels": [8, 8, 16, 16], "zero_init_last": False}
    ),
    "mobilenet, whose stem and head follow letters": NetworkDescription("mobilenetv2_035", 5, image_size=64),
    "vit": NetworkDescription("vit_tiny_patch16_224", 5, image_size=64, kwargs=TINY_VIT),
    "eva, whose blocks take a second input": NetworkDescription(
        "vit_small_patch16_dinov3", 5, image_size=64, kwargs=TINY_VIT
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param].build().eval()


@pytest.fixture
def images(network):
    return torch.rand(2, *network.input_shape, generator=torch.Generator().manual_seed(1))


def skipped_forms(network):
    """Return the modules that run the stages of `base`."""
    return [
        module
        for segment in range(1, network.num_segments - 1)
        for module in network.form(segment, network.paths(segment)[-1])
    ]


def change(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.rand_like(parameter))


def assert_both_forms_follow(network, images):
    """The forms that `forward` runs hold what `state_dict` says: a network wired anew gives the same."""
    fresh = network.description.build().to(images.dtype).eval()
    fresh.load_state_dict(network.state_dict())
    network.eval()
    with torch.no_grad():
        for profile in network.extremes:
            torch.testing.assert_close(network(images, profile), fresh(images, profile), rtol=0, atol=0)
            torch.testing.assert_close(
                network.subnetwork(profile)(images), fresh(images, profile), rtol=0, atol=0
            )


def duplicates(network):
    return pickle.loads(cloudpickle.dumps(network))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, duplicates])
def test_a_copy_is_whole_and_independent(network, images, duplicate):
    before = network(images, "base")
    other = duplicate(network)
    change(other)
    assert_both_forms_follow(other, images)
    torch.testing.assert_close(network(images, "base"), before, rtol=0, atol=0)


def test_changed_weights_reach_both_forms(network, images):
    network(images, "base")
    change(network)
    assert_both_forms_follow(network, images)


@pytest.mark.parametrize("assign", [False, True])
def test_loaded_weights_reach_both_forms(network, images, assign):
    network(images, "base")
    other = network.description.build()
    change(other)
    network.load_state_dict(other.state_dict(), assign=assign)
    assert_both_forms_follow(network, images)


def test_a_new_type_reaches_both_forms(network, images):
    network(images, "base")
    network.to(torch.float64)
    assert_both_forms_follow(network, images.double())


def test_a_new_memory_format_reaches_both_forms(network, images):
    network(images, "base")
    network.to(memory_format=torch.channels_last)
    weights = [p for form in skipped_forms(network) for p in form.parameters() if p.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_frozen_weights_are_frozen_in_both_forms(network, images):
    network(images, "base")
    network.requires_grad_(False)
    assert not network(images, "base").requires_grad
    network.requires_grad_(True)
    assert network(images, "base").requires_grad


def test_an_exponential_moving_average_is_a_whole_network(network, images):
    network(images, "base")
    average = ModelEmaV3(network, decay=0.5)
    change(network)
    average.update(network)
    assert_both_forms_follow(average.module, images)


def test_training_mode_reaches_both_forms(network, images):
    network(images, "base")
    for mode in (True, False):
        network.train(mode)
        forms = [network.subnetwork(profile) for profile in network.extremes]
        forms += skipped_forms(network)
        assert {module.training for form in forms for module in form.modules()} == {mode}


def test_hooks_and_settings_of_a_module_reach_both_forms(network, images):
    runs = []
    first = network.backbone.get_submodule(network.layouts[-2].blocks[0])
    first.register_forward_hook(lambda *_: runs.append(1))
    network(images, "full")
    network(images, "base")
    assert len(runs) == 2


def gradients(network, images):
    torch.manual_seed(0)
    network.train().zero_grad()
    step = SelfDistillation(network, DistillationConfig(), nn.CrossEntropyLoss(reduction="none"))
    step(images, torch.tensor([0, 1]), network.extremes[1:]).backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_gradients_are_the_same_when_activations_are_computed_again(network, images):
    kept = gradients(network, images)
    network.set_grad_checkpointing(True)
    again = gradients(network, images)
    torch.testing.assert_close(again, kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035", "tresnet_m", "ghostnet_050"])
def test_norms_see_every_batch_once_though_activations_are_computed_again(name):
    torch.manual_seed(0)
    kept = NetworkDescription(name, 5, image_size=64, path_statistics=True).build()
    again = copy.deepcopy(kept)
    again.set_grad_checkpointing(True)
    images = torch.rand(2, 3, 64, 64)
    for network in (kept, again):
        before = copy.deepcopy(dict(network.named_buffers()))
        gradients(network, images)
        assert any(not value.equal(before[key]) for key, value in network.named_buffers())
    torch.testing.assert_close(dict(again.named_buffers()), dict(kept.named_buffers()), rtol=0, atol=0)


def test_activations_computed_again_are_not_kept(network, images):
    def num_saved():
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            network.train()(images)
        return sum(saved)

    before = num_saved()
    network.set_grad_checkpointing(True)
    assert num_saved() < before


def test_norms_that_were_exchanged_are_exchanged_in_both_forms(network, images):
    network(images, "base")
    network = convert_sync_batchnorm(network)
    kinds = {type(module) for form in map(network.subnetwork, network.extremes) for module in form.modules()}
    kinds |= {type(module) for form in skipped_forms(network) for module in form.modules()}
    assert not kinds & {nn.BatchNorm2d, BatchNormAct2d}
    assert_both_forms_follow(network, images)


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_data_parallel_training_reduces_every_gradient_in_one_pass(network, images):
    alone = gradients(network, images)
    network.zero_grad()
    torch.manual_seed(0)
    step = SelfDistillation(network, DistillationConfig(), nn.CrossEntropyLoss(reduction="none"))
    parallel = DistributedDataParallel(step, find_unused_parameters=False)
    parallel(images, torch.tensor([0, 1]), network.extremes[1:]).backward()
    reduced = {name: parameter.grad for name, parameter in network.named_parameters()}
    torch.testing.assert_close(reduced, alone, rtol=1e-5, atol=1e-6)
