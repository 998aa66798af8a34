import pytest
import torch
from torch.nn import functional

from pipeline.evaluation.accuracy import accuracies, count_profiles
from pipeline.evaluation.evaluate import evaluate_profiles
from pipeline.evaluation.table import ProfileTable
from pipeline.networks import AdaptiveDepthNetwork

CPU = torch.device("cpu")


def _network(num_classes):
    torch.manual_seed(0)
    return AdaptiveDepthNetwork.from_timm(
        "resnet18",
        num_classes=num_classes,
        image_size=16,
        small_images=True,
        channels=[8, 8, 8, 8],
        zero_init_last=False,
    ).eval()


def _batches(num_classes, sizes=(4, 3)):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(size, 3, 16, 16, generator=generator),
            torch.randint(num_classes, (size,), generator=generator),
        )
        for size in sizes
    ]


def test_all_profiles_in_one_pass_equal_sixteen_separate_evaluations():
    network, batches = _network(10), _batches(10)
    together = count_profiles(network, batches, network.profiles, device=CPU, precision="float32")
    for row, profile in zip(together, network.profiles, strict=True):
        alone = count_profiles(network, batches, [profile], device=CPU, precision="float32")
        assert torch.equal(row, alone[0])


def test_counts_are_those_of_a_plain_loop_over_the_static_subnetwork():
    network, batches = _network(10), _batches(10)
    counted = count_profiles(network, batches, network.profiles, device=CPU, precision="float32")
    for row, profile in zip(counted, network.profiles, strict=True):
        loss = top1 = top5 = 0.0
        for images, labels in batches:
            logits = network.subnetwork(profile)(images.to(memory_format=torch.channels_last)).detach()
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
            top1 += (logits.argmax(1) == labels).sum().item()
            top5 += sum(label in logits[i].topk(5).indices for i, label in enumerate(labels))
        assert row.tolist() == pytest.approx([loss, top1, top5, 7], rel=1e-5)


def test_parts_of_the_images_add_up_to_the_whole():
    network, batches = _network(10), _batches(10)
    parts = [
        count_profiles(network, [batch], network.profiles, device=CPU, precision="float32")
        for batch in batches
    ]
    whole = count_profiles(network, batches, network.profiles, device=CPU, precision="float32")
    torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("num_classes", "has_top5"), [(5, False), (6, True)])
def test_top5_needs_more_than_five_classes(num_classes, has_top5):
    network = _network(num_classes)
    totals = count_profiles(network, _batches(num_classes), network.extremes, device=CPU, precision="float32")
    results = accuracies(totals, network.extremes, num_classes=num_classes)
    assert all((result.top5 is not None) is has_top5 for result in results.values())


def test_bf16_casts_every_weight_once_for_all_profiles_and_batches():
    network, batches = _network(10), _batches(10)
    kernels = [list(parameter.shape) for parameter in network.parameters() if parameter.ndim == 4]
    with torch.profiler.profile(record_shapes=True) as profiler:
        count_profiles(network, batches, network.profiles, device=CPU, precision="bf16")
    casts = [event.input_shapes[0] for event in profiler.events() if event.name == "aten::_to_copy"]
    assert sum(shape in kernels for shape in casts) == len(kernels)


def test_accuracy_of_no_image_is_refused():
    network = _network(3)
    totals = count_profiles(network, [], network.extremes, device=CPU, precision="float32")
    with pytest.raises(ValueError, match="at least one counted image, got none"):
        accuracies(totals, network.extremes, num_classes=3)


def test_the_profile_table_has_every_profile_once_and_survives_json():
    network = _network(10)
    told = []
    table = evaluate_profiles(network, _batches(10), device=CPU, latency_runs=2, on_latency=told.append)
    assert [result.profile for result in table.results] == [str(profile) for profile in network.profiles]
    assert [result.profile for result in table.results if result.trained] == ["FFFF", "TTTT"]
    assert table.num_images == 7
    assert told == list(range(1, 17))
    assert "moving average" not in table.conditions
    assert ProfileTable.from_json(table.to_json()) == table


def test_the_markdown_table_has_a_row_a_profile():
    table = evaluate_profiles(_network(10), _batches(10), device=CPU, latency_runs=2)
    rows = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 16
    assert "top-5" in rows[0]
    assert rows[2].startswith("| FFFF | trained |")


def test_the_front_of_the_table_is_the_front_of_its_columns():
    table = evaluate_profiles(_network(10), _batches(10), device=CPU, latency_runs=2)
    for result in table.results:
        is_beaten = any(
            (other.macs, -other.top1) != (result.macs, -result.top1)
            and other.macs <= result.macs
            and other.top1 >= result.top1
            for other in table.results
        )
        assert result.is_pareto is not is_beaten


def test_a_table_says_whose_weights_it_tells_about_and_which_profiles_were_trained():
    network = _network(10)
    trained = network.profiles[:3]
    table = evaluate_profiles(
        network, _batches(10), device=CPU, trained=trained, weights="average", latency_runs=2
    )
    assert [result.profile for result in table.results if result.trained] == list(map(str, trained))
    assert "; weights are a moving average; latency on" in table.to_markdown().split("\n")[-1]
    assert ProfileTable.from_json(table.to_json()) == table
