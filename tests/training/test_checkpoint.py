"""A checkpoint restores everything, or is refused by name and changes nothing."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from timm.optim import create_optimizer_v2

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.adaptive import memory_format
from pipeline.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    load_weights,
    read_history,
    save_checkpoint,
)
from pipeline.training.epochs import EpochReport, Reached
from pipeline.training.manifest import CheckpointError
from pipeline.training.plain_state import pack, unpack

HISTORY = (EpochReport(1, {"train/loss": 1.5, "full/top1": 0.25}, 1_700_000_000_000),)


def _network(seed=0, channels=8):
    torch.manual_seed(seed)
    network = AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=3, image_size=32, channels=[channels] * 4
    )
    return network.to(memory_format=memory_format(network))


def _state(seed=0, opt="sgd", **parts):
    """Parts of a training after one update."""
    network = _network(seed)
    optimizer = create_optimizer_v2(network, opt=opt, lr=0.1, momentum=0.9)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return TrainingState(network, optimizer, **parts)


@pytest.fixture
def folder(tmp_path):
    """A sound checkpoint."""
    save_checkpoint(tmp_path, _state(), Reached(HISTORY))
    return tmp_path


def _tensors(state):
    return {
        f"{index}.{name}": value
        for index, values in state.optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "rmsproptf", "adafactor"])
def test_a_checkpoint_restores_weights_optimiser_and_history(tmp_path, opt):
    before, after = _state(opt=opt), _state(seed=1, opt=opt)
    save_checkpoint(tmp_path, before, Reached(HISTORY, 7, 1.5))
    assert load_checkpoint(tmp_path, after) == Reached(HISTORY, 7, 1.5)
    torch.testing.assert_close(after.network.state_dict(), before.network.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(_tensors(after), _tensors(before), rtol=0, atol=0)
    groups = "param_groups"
    assert after.optimizer.state_dict()[groups] == before.optimizer.state_dict()[groups]


def test_a_restored_optimiser_lies_in_memory_like_its_parameters(folder):
    before, after = _state(), _state(seed=1)
    load_checkpoint(folder, after)
    strides = {name: value.stride() for name, value in _tensors(before).items()}
    assert {name: value.stride() for name, value in _tensors(after).items()} == strides
    assert any(not value.is_contiguous() for value in _tensors(after).values())


@pytest.mark.parametrize("opt", ["sgd", "adamw", "adafactor"])
def test_a_restored_training_needs_the_files_no_more(tmp_path, opt):
    before, after = _state(opt=opt), _state(seed=1, opt=opt)
    save_checkpoint(tmp_path, before, Reached(HISTORY))
    load_checkpoint(tmp_path, after)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"")
    torch.testing.assert_close(_tensors(after), _tensors(before), rtol=0, atol=0)
    torch.testing.assert_close(after.network.state_dict(), before.network.state_dict(), rtol=0, atol=0)


def test_average_and_scaler_are_restored_where_there_are_any(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    save_checkpoint(tmp_path, _state(ema=_network(2), scaler=scaler), Reached(HISTORY))
    other = _state(ema=_network(3), scaler=torch.amp.GradScaler("cpu"))
    load_checkpoint(tmp_path, other)
    torch.testing.assert_close(other.ema.state_dict(), _network(2).state_dict(), rtol=0, atol=0)
    assert other.scaler.get_scale() == 8.0


def test_no_file_of_a_checkpoint_needs_unpickling(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.json",
        "history.json",
        "model.safetensors",
        "optimizer.safetensors",
    ]
    assert json.loads((folder / "checkpoint.json").read_text())["epoch"] == 1
    assert "backbone.conv1.weight" in load_file(folder / "model.safetensors")


FILES = ["checkpoint.json", "history.json", "model.safetensors", "optimizer.safetensors"]


@pytest.mark.parametrize("file", FILES)
def test_a_checkpoint_with_a_missing_file_is_refused_by_name(folder, file):
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{folder} is not: {file} is missing; go on from another"):
        load_checkpoint(folder, _state())


@pytest.mark.parametrize("file", FILES[1:])
@pytest.mark.parametrize("kept", [0, 10])
def test_a_truncated_file_is_refused_by_name(folder, file, kept):
    size = (folder / file).stat().st_size
    (folder / file).write_bytes((folder / file).read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=rf"{file} was cut short .* {kept} of {size} bytes"):
        load_checkpoint(folder, _state())


@pytest.mark.parametrize("text", ["", '{"version": 2, "files"'])
def test_a_truncated_manifest_is_refused(folder, text):
    (folder / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"checkpoint.json is no JSON"):
        load_checkpoint(folder, _state())


@pytest.mark.parametrize("file", FILES[1:])
def test_one_flipped_bit_is_found(folder, file):
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file} is corrupted, its SHA-256 differs"):
        load_checkpoint(folder, _state())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 3}', "is of format 3, this version of Skipline reads 2"),
        ("[]", "is of format None"),
        ('{"version": 2}', r"lacks what format 2 holds \('files'\)"),
        ('{"version": 2, "files": {}}', "lacks what format 2 holds .*missing"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused(folder, text, message):
    (folder / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, _state())


def test_a_checkpoint_of_another_network_is_refused_with_the_difference(folder):
    with pytest.raises(CheckpointError, match=r"another network: kwargs .*\[8, 8, 8, 8\].* instead of .*\[4"):
        load_weights(folder, _network(channels=4))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"opt": "adamw"}, "kind 'SGD' instead of 'AdamW'"),
        ({"ema": _network()}, "ema False instead of True"),
        ({"scaler": torch.amp.GradScaler("cpu")}, "scaler False instead of True"),
    ],
)
def test_a_checkpoint_of_other_training_settings_is_refused(folder, parts, message):
    with pytest.raises(CheckpointError, match=f"is of other training settings: {message}"):
        load_checkpoint(folder, _state(**parts))


def test_a_refused_checkpoint_changes_nothing(folder):
    (folder / "optimizer.safetensors").write_bytes(b"")
    state = _state(seed=1)
    weights = {name: value.clone() for name, value in state.network.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"optimizer.safetensors was cut short"):
        load_checkpoint(folder, state)
    torch.testing.assert_close(state.network.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("text", ["", '[{"epoch": 1}]', "[1]"])
def test_a_history_that_cannot_be_read_is_refused_by_name(folder, text):
    (folder / "history.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"history.json cannot be read"):
        read_history(folder)


def test_a_refusal_keeps_its_text_when_it_is_pickled():
    error = CheckpointError("runs/a", "model.safetensors", "is missing")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_state_of_any_nesting_comes_back_as_it_was():
    state = {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.95)}, "names": ["a", None], "on": True}
    tensors = {}
    plain = json.loads(json.dumps(pack(state, tensors)))
    assert unpack(plain, tensors) == state
    assert list(tensors) == ["0.step"]


def test_state_that_is_no_plain_data_is_refused_with_its_place():
    with pytest.raises(TypeError, match=r"got set at 'state.2'; choose another optimiser"):
        pack({"state": [1, 2, {3}]}, {})
