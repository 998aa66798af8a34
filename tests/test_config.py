import pytest
import yaml

from pipeline.config import Job, all_keys, examine_job, load_job, parse_job, presets
from pipeline.errors import RequestError
from pipeline.job_template import render_template


def _data(**changes):
    data = {
        "name": "tiny",
        "data": {"train": "builtin:digits"},
        "backbone": {"name": "resnet18"},
        "training": {"epochs": 2},
        "registry": {"model": "tiny"},
    }
    return {**data, **changes}


def _problems(**changes):
    return examine_job(_data(**changes)).problems


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_valid_job(name):
    assert load_job(name).name == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"epochs": 2, "lrr": 1}},
            "unknown key 'training.lrr' with the value 1; did you mean 'training.lr'",
        ),
        ({"colour": 1}, "unknown key 'colour' with the value 1; known here: name, seed, data"),
        (
            {"training": {"epochs": "two"}},
            "training.epochs: input should be a valid integer, got 'two'",
        ),
        (
            {"training": {"epochs": 0}},
            "training.epochs: input should be greater than or equal to 1, got 0",
        ),
        ({"training": {}}, "key 'training.epochs' is required and missing"),
        (
            {"training": {"epochs": 2, "workers": 2, "min_workers": 3}},
            "min_workers <= workers must hold, got 3 and 2",
        ),
        (
            {"training": {"epochs": 2, "workers": 4}, "limits": {"max_workers": 3}},
            "limits: max_workers and max_gpus must let one training run, got 3 for training.workers 4",
        ),
        (
            {"training": {"epochs": 2, "workers": 2, "use_gpu": True}, "limits": {"max_gpus": 1}},
            "limits: max_workers and max_gpus must let one training run, got 1 for training.workers 2",
        ),
        (
            {"training": {"epochs": 2, "weight_decay": 0.0, "decay_all": True}},
            "training: decay_all has no effect with weight_decay: 0; leave it out",
        ),
        ({"name": "a/b"}, "name: string should match pattern"),
        ({"split": "half"}, "split: input should be 'paper', got 'half'"),
        (
            {"backbone": {"name": "resnet18", "pretrained": 3}},
            "backbone.pretrained: input should be a valid boolean, got 3",
        ),
        (
            {"data": {"train": "x", "crop": "centre"}},
            "data.crop: input should be 'random_resized', 'pad' or 'none'",
        ),
        (
            {"training": {"epochs": 2, "batch_size": 10, "workers": 4}},
            "multiple of workers times accumulation_steps, got 10 and 4; write 8",
        ),
        (
            {"training": {"epochs": 2, "warmup_epochs": 2}},
            "warmup_epochs < epochs must hold, got 2 and 2",
        ),
        (
            {"training": {"epochs": 2, "schedule": "multistep"}},
            "schedule: multistep needs milestones, got none",
        ),
        (
            {"training": {"epochs": 2, "milestones": [1]}},
            "milestones has no effect with schedule: cosine; leave it out",
        ),
        (
            {"training": {"epochs": 2, "optimizer": "adamw", "momentum": 0.8}},
            "momentum has no effect with optimizer: adamw; leave it out",
        ),
        (
            {"training": {"epochs": 2, "optimizer": "adamv"}},
            "optimizer must be one of timm's, got 'adamv'; did you mean adam",
        ),
        (
            {"training": {"epochs": 2, "schedule": "step"}},
            "schedule: step needs step_epochs, got none; write such as step_epochs: 30",
        ),
        (
            {"training": {"epochs": 2, "clip_mode": "agc"}},
            "clip_mode has no effect without clip_grad",
        ),
        (
            {"training": {"epochs": 2, "sync_batch_norm": True}},
            "sync_batch_norm needs several workers with a GPU each, got workers: 1 and use_gpu: false",
        ),
        (
            {"distillation": {"student_labels": "only", "temperature": 2.0}},
            "temperature has no effect with student_labels: only",
        ),
        (
            {"distillation": {"students": "base", "sampled_share": 0.5}},
            "sampled_share has no effect without students: base_and_sampled",
        ),
        (
            {"distillation": {"feature_temperature": 4.0}},
            "feature_temperature has no effect with features: 0",
        ),
        (
            {"distillation": {"feature_stages": "all_but_first"}},
            "feature_stages has no effect with features: 0",
        ),
        (
            {"augmentation": {"mixup": 0.2, "cutmix_probability": 0.3}},
            "cutmix_probability has no effect without both mixup and cutmix",
        ),
        (
            {"augmentation": {"policy": "rnd-m9"}},
            "policy must be trivial or a name of timm's, got 'rnd-m9'",
        ),
        (
            {"data": {"train": "x", "max_bad_fraction": 0.1}},
            "max_bad_fraction has no effect with bad_items: fail",
        ),
        (
            {"data": {"train": "x", "validation": "y", "validation_fraction": 0.2}},
            "validation_fraction has no effect beside validation",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_way_out(changes, message):
    (problem, *others) = _problems(**changes)
    assert message in problem
    assert not [other for other in others if other.split(":")[0] != problem.split(":")[0]]


def test_all_problems_of_a_file_are_found_in_one_go():
    problems = _problems(
        training={"epochs": 2, "lr": "fast", "optimizer": "adamw", "momentum": 0.8},
        colour=1,
        data={"train": 3},
    )
    text = "\n".join(problems)
    for part in ("training.lr", "momentum has no effect", "'colour'", "data.train"):
        assert part in text


def test_what_is_left_of_a_wrong_job_is_returned_for_further_checks():
    found = examine_job(_data(colour=1))
    assert found.job == parse_job(_data())
    assert len(found.problems) == 1
    assert found.stand_ins == frozenset()


@pytest.mark.parametrize(
    ("changes", "stand_ins"),
    [
        ({"training": {"epochs": "two", "workers": 2}}, {"training.epochs"}),
        ({"training": {"epochs": 2, "batch_size": 3, "workers": 2}}, {"training.epochs"}),
        ({"data": 3}, {"data.train"}),
        ({"search": {"space": "resnet"}}, {"search.epochs"}),
        ({"search": {"space": 4, "epochs": "x"}}, {"search.space", "search.epochs"}),
    ],
)
def test_a_wrong_required_key_keeps_nothing_else_from_being_checked(changes, stand_ins):
    found = examine_job(_data(**changes))
    assert found.job is not None
    assert found.stand_ins == stand_ins
    assert found.problems


def test_an_override_wins_over_the_file():
    assert load_job("quickstart", ["training.epochs=3", "split=[1, 1, 1, 1]"]).split == (1, 1, 1, 1)


def test_an_override_can_remove_a_section():
    assert load_job("quickstart", ["search=null"]).search is None


def test_an_override_without_a_value_is_refused():
    with pytest.raises(RequestError, match=r"written KEY=VALUE, got 'training.epochs'"):
        load_job("quickstart", ["training.epochs"])


def test_a_job_that_is_neither_file_nor_preset_is_refused_with_the_presets():
    with pytest.raises(
        RequestError,
        match="got 'quickstrat', which is neither; presets: cifar10, mobilenetv2, quickstart, resnet50",
    ):
        load_job("quickstrat")


@pytest.mark.parametrize("text", ["a: [1", "- 1", "3"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match="a job file must be"):
        load_job(str(path))


def test_the_same_settings_are_the_same_job_wherever_they_are_stored():
    job = parse_job(_data())
    assert parse_job(_data(storage="elsewhere")).key() == job.key()
    assert parse_job(_data(limits={"max_workers": 4})).key() == job.key()
    keeps_going = {"min_workers": 1, "checkpoint_minutes": 5}
    assert parse_job(_data(training={**_data()["training"], **keeps_going})).key() == job.key()
    assert parse_job(_data(seed=1)).key() != job.key()


def test_every_key_is_documented():
    assert [key for key, description in all_keys().items() if not description] == []


@pytest.mark.parametrize("preset", presets())
def test_the_written_job_file_is_the_preset_and_shows_every_key(preset):
    text = render_template(preset, path="job.yaml")
    assert Job.model_validate(yaml.safe_load(text)) == load_job(preset)
    assert [key for key in all_keys() if f"{key.rpartition('.')[2]}:" not in text] == []


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"objective": "budget"}, "objective: budget needs one of max_gmacs, max_mparams, max_ms, got none"),
        ({"max_gmacs": 1.0}, "max_gmacs has no effect without objective: budget"),
        (
            {"study": "postgresql://me:very-secret@db/optuna"},
            "study must hold no password, the one given does",
        ),
        ({"study": "postgresql://db/optuna?password=very-secret"}, "study must hold no password"),
        ({"max_failed": 1.5}, "max_failed"),
        ({"winner": "continue", "image_size": 32}, "winner: continue keeps .* got image_size: 32 as well"),
        (
            {"objective": "budget", "max_gmacs": 1.0, "image_size": 32},
            "max_gmacs is for images of data.image",
        ),
        ({"max_ms": 5.0}, "max_ms has no effect without objective: budget"),
        ({"objective": "full_accuracy", "cost": "latency"}, "cost has no effect without"),
        ({"pareto": ["base_cost"]}, "pareto trades different values off, got base_cost; write two or three"),
        ({"pareto": ["base_cost", "base_cost"]}, "pareto trades different values off"),
        ({"pareto": ["base_cost", "full_accuracy"], "warm_start": "runs/old"}, "leave one of them out"),
    ],
)
def test_a_search_section_that_cannot_work_is_refused(search, message):
    with pytest.raises(RequestError, match=message) as caught:
        parse_job(_data(search={"space": "resnet", "epochs": 1, **search}))
    assert "very-secret" not in str(caught.value)
