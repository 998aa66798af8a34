import socket
import time

import pytest

from cluster.runtime import Capacity
from pipeline.config import parse_job
from pipeline.preflight import find_problems, placement_problems
from pipeline.search.driver import max_concurrent_trials
from pipeline.training.plan import shape_of


def _job(storage, **changes):
    data = {
        "name": "tiny",
        "data": {"train": "builtin:digits", "image_size": 16},
        "backbone": {"name": "resnet18"},
        "training": {"epochs": 2},
        "registry": {"model": "tiny"},
        "storage": str(storage),
    }
    return parse_job({**data, **changes})


def test_a_sound_job_has_no_problem_and_leaves_no_trace(tmp_path):
    assert find_problems(_job(tmp_path / "runs")) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"name": "resnet5O"}}, "did you mean resnet50"),
        (
            {"backbone": {"name": "vgg11"}},
            "vgg11 cannot become",
        ),
        (
            {"search": {"space": "resnet", "epochs": 1, "objective": "budget", "max_gmacs": 1e-4}},
            "of the smallest design its cheapest depth needs 0.007288 GMACs (at most 0.0001); raise it",
        ),
        (
            {
                "backbone": {"name": "resnet50"},
                "search": {"space": "resnet", "epochs": 1, "objective": "budget", "max_mparams": 12},
            },
            "the search starts from the job's own design, its cheapest depth needs",
        ),
        (
            {"search": {"space": "resnet", "epochs": 1, "objective": "budget", "max_mparams": 1}},
            "needs 4.907 M parameters (at most 1)",
        ),
        (
            {"registry": {"model": "tiny", "gate": {"floors": {"full": 0.9, "TFF": 0.8}}}},
            "registry.gate.floors: profile 'TFF' has 3 letters, resnet18 has 4 skippable stages",
        ),
        (
            {"backbone": {"name": "resnet18", "kwargs": {"in_chans": 4}}},
            "in_chans must be 3, images are then",
        ),
        ({"split": [1, 1]}, "a split has one point a stage, got 2"),
        ({"split": [1, 1, 1, 3]}, "got 3 for stage 4 of resnet18, which has 2 blocks"),
        ({"data": {"train": "nowhere/at/all", "image_size": 16}}, "nowhere/at/all"),
        (
            {
                "backbone": {"name": "vit_tiny_patch16_224"},
                "data": {"train": "builtin:digits", "image_size": 100},
            },
            "multiple of the patch size, got 100 pixels",
        ),
        (
            {"training": {"epochs": 2, "workers": 64, "batch_size": 64}},
            "got 64 workers of 1 CPUs and 0 GPUs each",
        ),
        (
            {"augmentation": {"cutmix": 1.0}, "training": {"epochs": 1, "batch_size": 6, "workers": 2}},
            "even number of images a worker, got 3",
        ),
        (
            {
                "backbone": {"name": "poolformer_s12"},
                "data": {"train": "builtin:digits", "image_size": 64},
                "training": {"epochs": 2, "layer_decay": 0.8},
            },
            "whose layers timm orders, got poolformer_s12 (MetaFormer)",
        ),
        (
            {"distillation": {"stochastic_depth": "super_net"}},
            "stochastic_depth has no effect where no block is dropped, got super_net for resnet18",
        ),
        (
            {
                "backbone": {"name": "test_vit", "stages": 1},
                "distillation": {"features": 1.0, "feature_stages": "all_but_first"},
            },
            "feature_stages: all_but_first needs several stages, got test_vit with one; write all",
        ),
        ({"search": {"space": "no-such-space", "epochs": 1}}, "no-such-space"),
        (
            {"search": {"space": "recipe_only", "epochs": 1, "warmup": "one_shot"}},
            "space 'recipe_only' does not draw split",
        ),
        (
            {
                "backbone": {"name": "efficientnet_b7"},
                "data": {"train": "builtin:digits", "image_size": 64},
                "search": {"space": "mobilenet", "epochs": 1, "warmup": "one_shot"},
            },
            "one_shot scores every split, at most 1,000, efficientnet_b7 has",
        ),
        (
            {
                "backbone": {"name": "vit_tiny_patch16_224"},
                "search": {"space": "vit", "epochs": 1, "image_size": 50},
            },
            "search.image_size: ",
        ),
        ({"registry": {"model": "a/b"}}, "a/b"),
    ],
)
def test_what_cannot_work_is_found_before_anything_starts(tmp_path, changes, message):
    assert message in "\n".join(find_problems(_job(tmp_path, **changes)))


def test_all_problems_are_found_in_one_go(tmp_path):
    job = _job(
        tmp_path,
        backbone={"name": "resnet5O"},
        data={"train": "nowhere"},
        registry={"model": "a/b"},
    )
    assert len(find_problems(job)) == 3


def test_a_server_that_never_answers_is_said_within_fifteen_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start_s = time.monotonic()
        problems = find_problems(_job(tmp_path, registry={"model": "tiny", "tracking_uri": uri}))
    assert uri in "\n".join(problems)
    assert time.monotonic() - start_s < 20


def test_a_storage_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "storage must be a folder that can be written" in "\n".join(
        find_problems(_job(tmp_path / "file" / "runs"))
    )


@pytest.mark.parametrize(
    ("nodes", "fits"),
    [(((2, 0),), True), (((1, 0), (1, 0)), True), (((1, 0),), False), ((), False)],
)
def test_workers_fit_where_whole_workers_fit_on_nodes(tmp_path, nodes, fits):
    job = _job(tmp_path, training={"epochs": 2, "workers": 2, "batch_size": 64})
    assert (placement_problems(job, Capacity(nodes)) == []) is fits


@pytest.mark.parametrize(("search", "fits"), [(None, True), ({"space": "resnet", "epochs": 1}, False)])
def test_an_elastic_training_needs_its_fewest_workers_and_a_trial_all(tmp_path, search, fits):
    training = {"epochs": 2, "workers": 2, "min_workers": 1, "batch_size": 64}
    job = _job(tmp_path, training=training, search=search)
    assert (placement_problems(job, Capacity(((1, 0),))) == []) is fits


@pytest.mark.parametrize(("limits", "trials"), [({}, 4), ({"max_workers": 5}, 2), ({"max_gpus": 1}, 4)])
def test_limits_bound_the_trials_at_a_time(tmp_path, monkeypatch, limits, trials):
    monkeypatch.setattr("pipeline.search.driver.capacity", lambda: Capacity(((8, 0),)))
    training = {"epochs": 2, "workers": 2, "batch_size": 64}
    assert max_concurrent_trials(_job(tmp_path, training=training, limits=limits)) == trials


def test_gpus_that_do_not_exist_are_refused_with_the_arithmetic(tmp_path):
    job = _job(tmp_path, training={"epochs": 2, "workers": 4, "batch_size": 64, "use_gpu": True})
    (problem,) = placement_problems(job, Capacity(((8, 2),)))
    assert "needs 4 CPUs and 4 GPUs; there is 1 node(s) with 8 CPUs and 2 GPUs, room for 2" in problem


def test_the_number_of_stages_and_shared_norms_reach_the_network(tmp_path):
    backbone = {"name": "vit_tiny_patch16_224", "stages": 2, "skip_aware_norms": False}
    job = _job(tmp_path, backbone=backbone, data={"train": "builtin:digits", "image_size": 16})
    network = shape_of(job)
    assert network.split == (3, 3)
    assert list(network.skip_norms.parameters()) == []
