"""What a GPU changes: these run where there is one, and skip elsewhere.

Shapes: B images, K classes.
"""

import copy

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config import parse_job
from pipeline.evaluation.calibration import calibrate
from pipeline.evaluation.evaluate import evaluate_profiles
from pipeline.networks import NetworkDescription
from pipeline.networks.adaptive import memory_format
from pipeline.recipe import DistillationConfig, TrainingConfig
from pipeline.storage import StoragePath
from pipeline.training.divergence import DivergenceError
from pipeline.training.health import HealthWatch
from pipeline.training.optimisation import build_criterion, build_optimizer
from pipeline.training.plan import plan_training
from pipeline.training.reading import Position
from pipeline.training.step import SelfDistillation
from pipeline.training.trainer import run_training
from pipeline.training.update import Updater

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BACKBONES = ("resnet18", "mobilenetv2_100", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
TOLERANCE = {"float32": 1e-3, "bf16": 0.1, "fp16": 0.1}
"""Relative, of a loss; chosen well above the rounding of each format."""


@pytest.fixture(autouse=True)
def _exact_products():
    """Products of float32 are of float32, not of TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def build(name, num_classes=10):
    """Return a network with the same new weights at every call."""
    torch.manual_seed(0)
    return NetworkDescription(name, num_classes, image_size=224).build()


def noise(batch_size=4):
    """Return images of noise and labels."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch_size, 3, 224, 224, generator=generator), torch.arange(batch_size) % 10


class Training:
    """Steps as a worker takes them."""

    def __init__(self, network, device, *, precision="float32", **recipe):
        recipe = TrainingConfig(epochs=1, optimizer="sgd", lr=0.01, precision=precision, **recipe)
        self.network = network.to(device, memory_format=memory_format(network)).train()
        self.optimizer = build_optimizer(self.network, recipe)
        rule = DistillationConfig(features=0.5)
        self.step_module = SelfDistillation(self.network, rule, build_criterion(recipe, is_smoothed=False))
        self.updater = Updater(
            self.step_module, self.step_module, self.optimizer, recipe, device=device, world_size=1
        )
        self.health = HealthWatch(
            self.network,
            self.optimizer,
            device=device,
            rank=0,
            world_size=1,
            board=None,
            precision=precision,
            undoes_overflow=precision == "fp16",
        )
        self.steps = 0

    def step(self, images, labels_B):
        """Take a step on what is on the device; returns the loss."""
        self.steps += 1
        _, base = self.network.extremes
        self.health.start_step(Position(1, self.steps, 99), [images])
        loss = self.updater.backward([(images, labels_B)], (base,))
        self.health.check(loss)
        self.updater.apply(self.steps)
        return loss

    def steps_until_told(self, images, labels_B):
        """Take steps, for numbers are read some steps later."""
        for _ in range(9):
            self.step(images, labels_B)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_profile_computes_what_it_computes_on_a_cpu(name):
    network, (images, _) = build(name).eval(), noise()
    with torch.inference_mode():
        there = network.forward_profiles(images, network.profiles)
        network.to(CUDA, memory_format=memory_format(network))
        here = network.forward_profiles(images.to(CUDA), network.profiles)
    for profile in network.profiles:
        torch.testing.assert_close(here[profile].cpu(), there[profile], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("passes", ["joint", "sequential"])
def test_three_steps_lose_what_they_lose_on_a_cpu(precision, passes):
    images, labels_B = noise(8)
    on_cpu = Training(build("resnet18"), CPU, passes=passes)
    on_gpu = Training(build("resnet18"), CUDA, passes=passes, precision=precision)
    for _ in range(3):
        expected = on_cpu.step(images, labels_B)
        found = on_gpu.step(images.to(CUDA), labels_B.to(CUDA))
        torch.testing.assert_close(found.cpu(), expected, rtol=TOLERANCE[precision], atol=0)


@pytest.mark.parametrize("recipe", [{}, {"ema_decay": 0.99}, {"clip_grad": 1.0}])
def test_a_step_never_waits_for_the_gpu(recipe):
    images, labels_B = (tensor.to(CUDA) for tensor in noise())
    training = Training(build("resnet18"), CUDA, precision="bf16", **recipe)
    training.step(images, labels_B)  # the first one allocates
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(images, labels_B)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert training.steps == 2


def test_a_divergence_is_told_though_it_is_read_late_and_the_weights_are_those_before():
    images, labels_B = (tensor.to(CUDA) for tensor in noise())
    training = Training(build("resnet18"), CUDA)
    training.step(images, labels_B)
    before = copy.deepcopy(training.network.state_dict())
    broken = images * float("nan")
    with pytest.raises(DivergenceError, match=r"step 2 of 99.*the images themselves"):
        training.steps_until_told(broken, labels_B)
    parameters = dict(training.network.named_parameters())
    torch.testing.assert_close(parameters, {name: before[name] for name in parameters}, rtol=0, atol=0)


def test_the_profile_table_is_measured_on_the_gpu():
    network = build("resnet18").to(CUDA)
    images, labels_B = noise(8)
    anew = calibrate(network, [images.to(CUDA)], device=CUDA)
    table = evaluate_profiles(anew, [(images, labels_B)], device=CUDA, latency_runs=5)
    assert table.latency.device == torch.cuda.get_device_name()
    assert len(table.results) == 16
    assert all(0 < result.latency_p50_ms <= result.latency_p95_ms for result in table.results)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_worker_trains_on_its_gpu_and_the_checkpoint_loads_on_a_cpu(digits, tmp_path, precision):
    job = parse_job(
        {
            "name": "gpu",
            "data": {"train": "builtin:digits", "image_size": 16, "crop": "pad", "flip_probability": 0.0},
            "backbone": {
                "name": "resnet18",
                "small_images": True,
                "kwargs": {"layers": [2, 2, 2, 2], "channels": [16, 16, 32, 32]},
            },
            "training": {
                "epochs": 3,
                "batch_size": 64,
                "lr": 0.05,
                "use_gpu": True,
                "cpus_per_worker": 2,
                "precision": precision,
            },
            "registry": {"model": "gpu"},
        }
    )
    storage = StoragePath.local(tmp_path)
    result = run_training(plan_training(job, digits), name="gpu", storage=storage, on_progress=lambda _: None)
    assert result.history[-1].metrics["full/top1"] > 0.5
    weights = load_file(result.checkpoint.local_path / "model.safetensors")
    assert {tensor.device.type for tensor in weights.values()} == {"cpu"}
