import torch
from timm.optim import create_optimizer_v2

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.training.checkpoint import EpochReport, load_checkpoint, save_checkpoint


def _network():
    return AdaptiveDepthNetwork.from_timm("resnet18", num_classes=3, image_size=32, channels=[8, 8, 8, 8])


def test_a_checkpoint_restores_weights_optimiser_and_history(tmp_path):
    network = _network()
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.1, momentum=0.9)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    history = (EpochReport(1, {"train/loss": 1.5, "full/top1": 0.25}, 1_700_000_000_000),)
    save_checkpoint(tmp_path, network, optimizer, history)

    other = _network()
    other_optimizer = create_optimizer_v2(other, opt="sgd", lr=0.1, momentum=0.9)
    assert load_checkpoint(tmp_path, other, other_optimizer, device=torch.device("cpu")) == history
    for name, value in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)
    restored, expected = other_optimizer.state_dict()["state"], optimizer.state_dict()["state"]
    assert restored.keys() == expected.keys()
    for index, state in expected.items():
        torch.testing.assert_close(
            restored[index]["momentum_buffer"], state["momentum_buffer"], rtol=0, atol=0
        )


def test_no_file_of_a_checkpoint_needs_unpickling(tmp_path):
    network = _network()
    save_checkpoint(tmp_path, network, create_optimizer_v2(network, opt="adamw", lr=0.1), ())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "history.json",
        "model.safetensors",
        "optimizer.pt",
    ]
    assert torch.load(tmp_path / "optimizer.pt", weights_only=True)["state"] == {}
