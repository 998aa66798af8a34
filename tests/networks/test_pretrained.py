"""What networks start with, from files that the tests write; the original timm models say what is right."""

import copy
import os
import pickle
import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.misfit import PretrainedError
from pipeline.networks.pretrained import check_source, initial_weights, start_from

TINY = {"channels": (8, 8, 16, 16), "layers": (2, 2, 2, 2)}
VIT = {"depth": 4, "embed_dim": 16, "num_heads": 2}


@pytest.fixture(scope="module")
def plain():
    """A small timm ResNet with five classes whose norms have seen images."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5, **TINY)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                norm.running_mean.uniform_(-0.1, 0.1)
    return model.eval()


@pytest.fixture
def weights_file(plain, tmp_path):
    """The model's weights as safetensors."""
    path = tmp_path / "weights.safetensors"
    save_file(plain.state_dict(), path)
    return path


def _describe(num_classes=5, **settings):
    kwargs = {**TINY, **settings.pop("kwargs", {})}
    return NetworkDescription("resnet18", num_classes, kwargs=kwargs, **settings)


def _same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


def _wrappings(weights):
    prefixed = {f"module.{name}": value for name, value in weights.items()}
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    return {
        "plain": weights,
        "DDP": prefixed,
        "training checkpoint": {"epoch": 3, "state_dict": prefixed},
        "EMA before the weights": {"state_dict": zeros, "state_dict_ema": weights},
        "torch.compile": {"model": {f"_orig_mod.{name}": value for name, value in weights.items()}},
    }


def test_a_network_that_starts_from_safetensors_computes_what_the_timm_model_does(plain, weights_file):
    network = AdaptiveDepthNetwork.from_timm("resnet18", num_classes=5, pretrained=weights_file, **TINY)
    images = torch.rand(2, 3, 64, 64)
    _same(network.eval()(images), plain(images))


@pytest.mark.parametrize("wrapping", _wrappings({}))
def test_torch_checkpoints_are_unwrapped_as_timm_does(plain, tmp_path, wrapping):
    path = tmp_path / "weights.pth"
    torch.save(_wrappings(plain.state_dict())[wrapping], path)
    start = initial_weights(_describe(), path)
    assert start.new == ()
    _same(start.weights, dict(plain.state_dict()))


def test_skip_aware_norms_start_as_copies(plain, weights_file):
    network = AdaptiveDepthNetwork.from_timm("resnet18", num_classes=5, pretrained=weights_file, **TINY)
    norms = network.skip_norms.state_dict()
    assert "layer1.0.bn1.running_mean" in norms
    _same(dict(norms), {name: plain.state_dict()[name] for name in norms})
    norms["layer1.0.bn1.weight"].zero_()
    assert network.backbone.get_parameter("layer1.0.bn1.weight").all()


def test_an_adaptive_networks_own_checkpoint_gives_its_super_net(plain, tmp_path):
    network = AdaptiveDepthNetwork(copy.deepcopy(plain), split="paper", description=_describe())
    torch.nn.init.zeros_(network.skip_norms.get_parameter("layer1.0.bn1.weight"))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    start = initial_weights(_describe(split=(1, 1, 1, 2)), tmp_path / "model.safetensors")
    _same(start.weights, dict(plain.state_dict()))


@pytest.mark.parametrize("num_classes", [1, 4, 10])
def test_the_head_alone_starts_new_for_another_class_count(plain, weights_file, num_classes):
    start = initial_weights(_describe(num_classes), weights_file)
    assert start.new == ("fc.weight", "fc.bias")
    assert start.weights["fc.weight"].shape == (num_classes, 16)
    _same(start.weights["layer4.1.conv2.weight"], plain.state_dict()["layer4.1.conv2.weight"])


def test_a_checkpoint_without_a_head_gets_a_new_one(plain, tmp_path):
    body = {name: value for name, value in plain.state_dict().items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "body.safetensors")
    assert initial_weights(_describe(), tmp_path / "body.safetensors").new == ("fc.weight", "fc.bias")


def test_what_starts_new_follows_from_the_seed(weights_file):
    starts = []
    for _ in range(2):
        torch.manual_seed(3)
        starts.append(initial_weights(_describe(7), weights_file).weights)
    _same(*starts)


def test_a_small_image_stem_starts_new_and_all_else_is_loaded(plain, weights_file):
    start = initial_weights(_describe(small_images=True), weights_file)
    assert start.new == ("conv1.weight",)
    assert start.weights["conv1.weight"].shape == (64, 3, 3, 3)
    _same(start.weights["bn1.weight"], plain.state_dict()["bn1.weight"])


def test_a_small_image_stem_is_loaded_from_a_checkpoint_that_has_one(tmp_path):
    network = _describe(small_images=True, kwargs={"in_chans": 1}).build()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    start = initial_weights(network.description, tmp_path / "model.safetensors")
    assert start.new == ()
    _same(start.weights["conv1.weight"], network.backbone.conv1.weight.detach())


def test_one_channel_takes_the_sum_over_the_three_of_the_checkpoint(plain, weights_file):
    start = initial_weights(_describe(kwargs={"in_chans": 1}), weights_file)
    stem = plain.state_dict()["conv1.weight"]
    torch.testing.assert_close(start.weights["conv1.weight"], stem.sum(1, keepdim=True))


def test_position_embeddings_are_resampled_for_another_image_size(tmp_path):
    trained = timm.create_model("vit_tiny_patch16_224", num_classes=5, **VIT)
    save_file(trained.state_dict(), tmp_path / "vit.safetensors")
    description = NetworkDescription("vit_tiny_patch16_224", 5, image_size=96, kwargs=VIT)
    start = initial_weights(description, tmp_path / "vit.safetensors")
    resampled = resample_abs_pos_embed(trained.pos_embed.detach(), [6, 6], [14, 14], num_prefix_tokens=1)
    assert start.new == ()
    _same(start.weights["pos_embed"], resampled)


def test_keys_are_renamed_by_the_filter_of_the_entry_point(tmp_path):
    trained = timm.create_model("convnext_atto", num_classes=5, depths=(2, 2, 2, 2), dims=(8, 8, 16, 16))
    weights = {name.replace("head.fc.", "head."): value for name, value in trained.state_dict().items()}
    weights = {
        name.replace("head.norm.", "norm.").replace("conv_dw", "dwconv"): v for name, v in weights.items()
    }
    torch.save({"model": weights}, tmp_path / "original.pth")
    kwargs = {"depths": (2, 2, 2, 2), "dims": (8, 8, 16, 16)}
    start = initial_weights(NetworkDescription("convnext_atto", 5, kwargs=kwargs), tmp_path / "original.pth")
    _same(start.weights, dict(trained.state_dict()))


def test_half_precision_weights_become_float32(plain, tmp_path):
    half = {name: value.half() if value.is_floating_point() else value for name, value in _items(plain)}
    save_file(half, tmp_path / "half.safetensors")
    start = initial_weights(_describe(), tmp_path / "half.safetensors")
    assert {value.dtype for value in start.weights.values()} == {torch.float32, torch.int64}


def test_checkpoints_without_batch_counters_are_whole(plain, tmp_path):
    old = {name: value for name, value in _items(plain) if not name.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "old.safetensors")
    assert initial_weights(_describe(), tmp_path / "old.safetensors").new == ()


def _items(model):
    return model.state_dict().items()


def test_a_misfit_names_the_first_missing_unexpected_and_misshaped_keys_with_counts(plain, tmp_path):
    weights = dict(_items(plain))
    del weights["bn1.weight"]
    weights |= {f"extra{number}": torch.zeros(number) for number in range(1, 5)}
    weights["conv1.weight"] = torch.zeros(64, 3, 5, 5)
    save_file(weights, tmp_path / "misfit.safetensors")
    told = (
        "1 missing (bn1.weight (64,)); 4 unexpected (extra1 (1,), extra2 (2,), extra3 (3,), ...); "
        "1 of another shape (conv1.weight (64, 3, 5, 5), not (64, 3, 7, 7)); nothing was loaded"
    )
    with pytest.raises(PretrainedError, match=re.escape(told)):
        check_source(_describe(), tmp_path / "misfit.safetensors")


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet50"])
def test_a_checkpoint_of_another_architecture_is_refused(weights_file, backbone):
    with pytest.raises(PretrainedError, match=rf"weights.safetensors does not fit {backbone}: \d+ missing"):
        check_source(NetworkDescription(backbone, 5), weights_file)


def test_a_head_that_reads_other_features_is_a_misfit_and_not_another_class_count(plain, tmp_path):
    save_file({**plain.state_dict(), "fc.weight": torch.zeros(9, 17)}, tmp_path / "wide.safetensors")
    with pytest.raises(PretrainedError, match=r"fc.weight \(9, 17\), not \(5, 16\)"):
        check_source(_describe(), tmp_path / "wide.safetensors")


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshaped"])
def test_weights_that_do_not_fit_leave_a_network_as_it_was(plain, change):
    network = _describe().build()
    before = copy.deepcopy(network.state_dict())
    weights = {name: value + 1 for name, value in _items(plain)}
    match change:
        case "missing":
            del weights["fc.bias"]
        case "unexpected":
            weights["extra"] = torch.zeros(1)
        case "misshaped":
            weights["fc.bias"] = torch.zeros(6)
    with pytest.raises(PretrainedError, match=r"does not fit resnet18: 1 .*; nothing was loaded"):
        start_from(network, weights)
    _same(dict(network.state_dict()), dict(before))


class _Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_is_refused_and_not_executed(plain, tmp_path, dump):
    path = tmp_path / "evil.pth"
    dump({"state_dict": plain.state_dict(), "hook": _Evil(tmp_path / "executed")}, path)
    with pytest.raises(
        PretrainedError, match=r"nothing else is ever unpickled; .*evil.pth (needs|holds more)"
    ):
        check_source(_describe(), path)
    assert not (tmp_path / "executed").exists()


def test_a_pickled_model_is_refused_with_the_classes_it_needs(plain, tmp_path):
    torch.save(plain, tmp_path / "model.pth")
    with pytest.raises(
        PretrainedError, match=r"needs .*timm\.models\.resnet\.ResNet; .* write its state_dict\(\)"
    ):
        check_source(_describe(), tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.pth", b"hello", "text.pth cannot be read"),
        ("empty.pth", b"", "empty.pth cannot be read"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "cut.safetensors cannot be read"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PretrainedError, match=message):
        check_source(_describe(), tmp_path / name)


@pytest.mark.parametrize("weights", [{}, {"state_dict": {}}])
def test_a_checkpoint_without_weights_is_refused_and_timms_are_not_fetched(tmp_path, weights):
    torch.save(weights, tmp_path / "empty.pth")
    with pytest.raises(PretrainedError, match=r"empty.pth holds none"):
        initial_weights(_describe(), tmp_path / "empty.pth")


@pytest.mark.parametrize("path", ["nowhere.pth", ""])
def test_a_path_without_a_file_is_refused(tmp_path, path):
    with pytest.raises(PretrainedError, match=r"got '.*', which is no file; correct the path, or write true"):
        check_source(_describe(), tmp_path / path)


def test_kwargs_that_change_a_published_architecture_are_refused_without_a_download():
    with pytest.raises(
        PretrainedError, match=r"timm's published resnet18 does not fit resnet18 with .*layers"
    ):
        check_source(NetworkDescription("resnet18", 5, kwargs={"layers": (3, 3, 3, 3)}), True)


@pytest.mark.parametrize("settings", [{}, {"image_size": 32, "small_images": True}])
def test_published_weights_fit_their_network_with_other_classes(settings):
    check_source(NetworkDescription("resnet18", 5, **settings), True)


def test_a_network_without_published_weights_is_refused():
    with pytest.raises(
        PretrainedError, match="publishes, it has none of vit_giant_patch14_224; give the path"
    ):
        check_source(NetworkDescription("vit_giant_patch14_224", 5), True)


def test_a_hub_that_cannot_be_reached_is_told_with_the_way_out():
    def out_of_reach(*_args, **_kwargs):
        raise ConnectionError("no route to host")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.models._builder.load_state_dict_from_hf", out_of_reach)
        with pytest.raises(
            PretrainedError,
            match=r"huggingface.co/timm/resnet18.*no route to host.*give its path as pretrained",
        ):
            initial_weights(NetworkDescription("resnet18", 5), True)
