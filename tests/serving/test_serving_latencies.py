"""Latencies that hold where the model runs."""

from dataclasses import replace

import pytest
import torch

from pipeline.evaluation.evaluate import evaluate_profiles
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.serving import Latencies

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=3, small_images=True, image_size=16, channels=[8, 8, 8, 8]
    ).eval()


@pytest.fixture(scope="module")
def table(network):
    table = evaluate_profiles(
        network, [(torch.rand(2, 3, 16, 16), torch.tensor([0, 1]))], device=CPU, latency_runs=2
    )
    return replace(table, latency=replace(table.latency, device="a machine far away"))


@pytest.fixture
def open_latencies(network, table, tmp_path):
    return lambda key="weights": Latencies(network, table, model_key=key, cache=tmp_path / "cache")


def test_without_a_measurement_the_registered_table_holds(open_latencies, table):
    assert open_latencies().table(1) is table


def test_a_measurement_is_of_this_machine_and_all_its_profiles(open_latencies, network, table):
    latencies = open_latencies()
    measured = latencies.calibrate()
    assert latencies.table(1) is measured
    assert (measured.latency.threads, measured.latency.batch_size) == (torch.get_num_threads(), 1)
    assert measured.latency.device != "a machine far away"
    assert [row.profile for row in measured.results] == list(map(str, network.profiles))
    assert all(0 < row.latency_p50_ms <= row.latency_p95_ms for row in measured.results)
    assert [row.top1 for row in measured.results] == [row.top1 for row in table.results]


def test_the_next_process_finds_a_measurement_for_the_same_weights_only(open_latencies, table):
    measured = open_latencies().calibrate()
    assert open_latencies().table(1) == measured
    assert open_latencies("other weights").table(1) is table


def test_another_number_of_threads_is_another_measurement(open_latencies, table):
    latencies = open_latencies()
    latencies.calibrate()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert latencies.table(1) is table
    finally:
        torch.set_num_threads(before)


def test_a_call_of_several_images_takes_their_own_measurement_where_there_is_one(open_latencies):
    latencies = open_latencies()
    one, four = latencies.calibrate(), latencies.calibrate(4)
    assert (latencies.table(4), latencies.table(3)) == (four, one)
    assert four.latency.batch_size == 4


def test_a_measurement_that_cannot_be_read_is_made_anew(open_latencies, tmp_path):
    open_latencies().calibrate()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text("{")
    assert open_latencies().calibrate().latency.batch_size == 1
    assert file.read_text().startswith('{"FFFF"')


def test_a_measurement_that_cannot_be_kept_counts_all_the_same(network, table, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder has to be")
    latencies = Latencies(network, table, model_key="weights", cache=tmp_path / "cache")
    assert latencies.table(1) is table
    assert latencies.calibrate() is latencies.table(1)


@pytest.mark.parametrize(("batch_size", "num_runs"), [(0, 5), (1, 1)])
def test_nothing_to_time_is_refused(open_latencies, batch_size, num_runs):
    with pytest.raises(ValueError, match=f"one image and two runs at least, got {batch_size} and {num_runs}"):
        open_latencies().calibrate(batch_size, num_runs=num_runs)
