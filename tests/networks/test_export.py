"""Static programs compute what the network computes, at any batch size; a few families stand for all.

All families: `test_onnx_coverage`.
"""

import sys

import onnx
import onnxruntime
import pytest
import torch

from pipeline.evaluation.calibration import calibrate
from pipeline.networks import NetworkDescription
from pipeline.networks.export import export_all_profiles, export_profile, write_onnx
from pipeline.networks.switched import SwitchedNetwork, profile_tensor
from tests.networks.training import as_after_some_training

TOLERANCE = 1e-4

NETWORKS = {
    "resnet": NetworkDescription(
        "resnet18",
        7,
        image_size=32,
        kwargs={"layers": [2, 2, 1, 1], "channels": [8, 8, 16, 16], "zero_init_last": False},
    ),
    "resnet, with statistics of every path": NetworkDescription(
        "resnet18",
        7,
        image_size=32,
        path_statistics=True,
        kwargs={"layers": [2, 2, 1, 1], "channels": [8, 8, 16, 16], "zero_init_last": False},
    ),
    "efficientnet, with statistics of every path": NetworkDescription(
        "test_efficientnet",
        7,
        (2, 1, 2, 2, 2),
        image_size=32,
        path_statistics=True,
        kwargs={"depth_multiplier": 2},
    ),
    "vit": NetworkDescription(
        "vit_tiny_patch16_224",
        7,
        image_size=16,
        num_stages=2,
        kwargs={"patch_size": 4, "depth": 4, "embed_dim": 16, "num_heads": 2},
    ),
    "efficientnet": NetworkDescription(  # its stem and head follow a letter
        "test_efficientnet", 7, (2, 1, 2, 2, 2), image_size=32, kwargs={"depth_multiplier": 2}
    ),
    "convnext": NetworkDescription(
        "convnext_atto", 7, image_size=32, kwargs={"depths": (1, 2, 1, 1), "dims": (8, 8, 16, 16)}
    ),
    "swin": NetworkDescription(
        "swin_tiny_patch4_window7_224",
        7,
        image_size=32,
        kwargs={"window_size": 4, "depths": (2, 1), "embed_dim": 16, "num_heads": (1, 2)},
    ),
    "eva": NetworkDescription(  # its state holds rotary embeddings beside the hidden state
        "vit_small_patch16_rope_224",
        7,
        image_size=32,
        num_stages=1,
        kwargs={"patch_size": 8, "depth": 2, "embed_dim": 16, "num_heads": 2},
    ),
}


@pytest.fixture(
    scope="module",
    # One process makes the programs of a network for all tests.
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in NETWORKS],
)
def network(request):
    torch.manual_seed(0)
    network = as_after_some_training(NETWORKS[request.param].build())
    if network.description.path_statistics:
        return calibrate(network, [torch.rand(8, *network.input_shape)], device=torch.device("cpu"))
    return network


@pytest.fixture(scope="module")
def all_profiles(network):
    return export_all_profiles(network)


@pytest.fixture(scope="module")
def all_profiles_onnx(all_profiles, tmp_path_factory):
    path = tmp_path_factory.mktemp("all") / "network.onnx"
    write_onnx(all_profiles, path)
    return path


def images_of(network, num_images):
    return torch.rand(num_images, *network.input_shape, generator=torch.Generator().manual_seed(num_images))


def relative_error(actual, expected):
    return float((actual - expected).abs().max() / expected.abs().max())


def run_onnx(session, **inputs):
    return torch.from_numpy(
        session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})[0]
    )


@torch.no_grad()
def test_every_profile_is_a_program_and_an_onnx_file_for_batches_of_any_size(network, tmp_path):
    for profile in network.profiles:
        program = export_profile(network, profile)
        write_onnx(program, tmp_path / "network.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
        for num_images in (1, 3):
            images = images_of(network, num_images)
            expected = network(images, profile)
            assert relative_error(program.module()(images), expected) < TOLERANCE
            assert relative_error(run_onnx(session, images=images), expected) < TOLERANCE


@torch.no_grad()
def test_one_saved_program_holds_all_profiles(network, all_profiles, tmp_path):
    torch.export.save(all_profiles, tmp_path / "network.pt2")
    module = torch.export.load(tmp_path / "network.pt2").module()
    for profile, num_images in zip(network.profiles, [1, 3] * len(network.profiles), strict=False):
        images = images_of(network, num_images)
        logits = module(images, profile_tensor(profile))
        assert relative_error(logits, network(images, profile)) < TOLERANCE


@torch.no_grad()
def test_one_onnx_file_holds_all_profiles(network, all_profiles_onnx):
    session = onnxruntime.InferenceSession(all_profiles_onnx)
    for profile, num_images in zip(network.profiles, [1, 3] * len(network.profiles), strict=False):
        images = images_of(network, num_images)
        logits = run_onnx(session, images=images, skips=profile_tensor(profile))
        assert relative_error(logits, network(images, profile)) < TOLERANCE


def test_a_program_with_all_profiles_stores_every_weight_once(network, all_profiles, all_profiles_onnx):
    weights = sum(parameter.nbytes for parameter in network.parameters())
    assert sum(parameter.nbytes for _, parameter in all_profiles.named_parameters()) == weights
    tensors = [
        onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(all_profiles_onnx).graph.initializer
    ]
    buffers = sum(buffer.nbytes for buffer in network.buffers())
    stored = sum(tensor.nbytes for tensor in tensors)
    assert weights <= stored <= weights + buffers + 512  # small constants of the graph


@torch.no_grad()
@pytest.mark.parametrize("network", ["resnet", "vit"], indirect=True)
def test_a_subnetwork_compiles(network):
    images = images_of(network, 2)
    compiled = torch.compile(network.subnetwork("base"), backend="aot_eager", fullgraph=True)
    assert relative_error(compiled(images), network(images, "base")) < TOLERANCE


def test_a_network_in_training_mode_is_refused():
    with torch.device("meta"):
        network = NETWORKS["resnet"].build()
    with pytest.raises(ValueError, match="evaluation mode, got resnet18 in training mode"):
        export_profile(network, "base")
    with pytest.raises(ValueError, match="evaluation mode, got resnet18 in training mode"):
        export_all_profiles(network)


def test_skips_of_another_length_are_refused():
    with torch.device("meta"):
        switched = SwitchedNetwork(NETWORKS["resnet"].build())
    with pytest.raises(ValueError, match=r"got the shape \(3,\), resnet18 has 2 letters"):
        switched(torch.rand(1, 3, 32, 32), torch.zeros(3, dtype=torch.bool))


def test_without_the_extra_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    with pytest.raises(ImportError, match=r"onnxscript cannot be imported; pip install 'skipline\[export\]'"):
        write_onnx(program, tmp_path / "network.onnx")


@torch.no_grad()
def test_exporting_leaves_nothing_of_the_trace_in_a_network_whose_attention_caches():
    small = {"embed_dim": (32, 48, 64), "key_dim": 16, "num_heads": (2, 3, 4), "depth": (2, 1, 1)}
    network = as_after_some_training(NetworkDescription("levit_256d", 7, kwargs=small).build())
    export_profile(network, "base")
    export_all_profiles(network)
    exported_first = network.forward_profiles(images_of(network, 1), network.profiles)
    untouched = network.description.build().eval()
    untouched.load_state_dict(network.state_dict())
    for profile, logits in exported_first.items():
        torch.testing.assert_close(logits, untouched(images_of(network, 1), profile), rtol=0, atol=0)
