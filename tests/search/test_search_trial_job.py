import pytest

from pipeline.config import parse_job
from pipeline.search.trial_job import shortened, trial_job, trial_seed


def job(epochs, **training):
    return parse_job(
        {
            "name": "a-job",
            "seed": 5,
            "data": {"train": "builtin:digits"},
            "backbone": {"name": "resnet50"},
            "training": {"epochs": epochs, **training},
            "search": {"space": "resnet", "epochs": 3},
            "registry": {"model": "a-model"},
        }
    )


@pytest.mark.parametrize(
    ("warmup", "full", "short", "expected"),
    [(5, 50, 10, 1), (10, 50, 10, 2), (1, 14, 3, 1), (40, 50, 3, 2), (1, 14, 1, 0)],
)
def test_warmup_keeps_its_share_and_leaves_an_epoch_to_train(warmup, full, short, expected):
    overrides = shortened(job(full, warmup_epochs=warmup).training, short)
    assert overrides == {"training.epochs": short, "training.warmup_epochs": expected}


@pytest.mark.parametrize(("short", "expected"), [(15, [6, 10, 14]), (3, [1, 2, 3]), (1, [1])])
def test_milestones_keep_their_share(short, expected):
    recipe = job(150, schedule="multistep", milestones=[60, 100, 140]).training
    assert shortened(recipe, short)["training.milestones"] == expected


def test_a_trial_has_the_image_size_of_the_search_where_there_is_one():
    full = job(10)
    sizes = [
        trial_job(full, full.search.model_copy(update={"image_size": size}), {}, seed=1).data.image_size
        for size in (None, 64)
    ]
    assert sizes == [224, 64]


@pytest.mark.parametrize("short", [1, 2, 3])
def test_a_trial_is_a_valid_job_with_the_design_and_its_own_seed(short):
    full = job(150, schedule="multistep", milestones=[60, 100, 140], warmup_epochs=5)
    search = full.search.model_copy(update={"epochs": short})
    trial = trial_job(full, search, {"split": [1, 2, 3, 1], "training.lr": 0.3}, seed=trial_seed(5, 2))
    assert (trial.split, trial.training.lr, trial.training.epochs) == ((1, 2, 3, 1), 0.3, short)
    assert trial.seed == trial_seed(5, 2)


def test_seeds_of_trials_differ_and_follow_from_the_jobs():
    seeds = [trial_seed(job_seed, number) for job_seed in range(10) for number in range(10)]
    assert len(set(seeds)) == 100
    assert seeds == [trial_seed(job_seed, number) for job_seed in range(10) for number in range(10)]
