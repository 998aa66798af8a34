import os
import re
import subprocess
import sys

import pytest
import yaml

from pipeline.checks.rehearsal import recipe_problems, trial_problems
from pipeline.checks.shapes import try_network
from pipeline.config import load_job, parse_job, presets
from pipeline.errors import RequestError
from pipeline.preflight import checked_job, design_problems
from search_spaces.loader import shipped_spaces
from tests.checks.wrong_jobs import WRONG_JOBS, changed


def _job(**changes):
    return parse_job(changed(changes))


@pytest.mark.parametrize(("changes", "words"), WRONG_JOBS.values(), ids=WRONG_JOBS)
def test_what_fails_in_a_worker_is_refused_by_key_and_value(tmp_path, changes, words):
    data = changed({**changes, "storage": str(tmp_path / "runs")})
    with pytest.raises(RequestError, match=re.escape(words[0])) as refused:
        checked_job(data)
    assert [word for word in words if word not in str(refused.value)] == []
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_of_all_kinds_are_told_at_once(tmp_path):
    wrong = {
        "backbone.kwargs": {"global_pool": "", "num_classes": 5},
        "backbone.pretrained": True,
        "training.optimizer_kwargs": {"nonsense": 1, "betas": [0.9]},
        "augmentation.policy": "rand-zzz",
        "distillation.top_k": 1,
        "registry.model": "a/b",
        "storage": str(tmp_path / "runs"),
    }
    with pytest.raises(RequestError, match="global_pool: ''") as refused:
        checked_job(changed(wrong))
    assert len(refused.value.problems) == 7


def test_a_refused_command_ends_with_2_before_ray_starts_and_writes_nothing(tmp_path):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(changed({"backbone.kwargs": {"global_pool": ""}})))
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "job.yaml"],
        cwd=tmp_path,
        env={**os.environ, "RAY_TMPDIR": str(tmp_path / "ray")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "resnet18 with global_pool: '' does not" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.parametrize("name", presets())
def test_presets_are_accepted_as_they_are(name):
    assert design_problems(load_job(name)) == []


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("mobilenet", {"backbone.name": "mobilenetv2_035", "data.image_size": 32}),
        ("optimizers", {}),
        ("recipe_only", {}),
        ("resnet", {}),
        ("splits_only", {}),
        (
            "swin",
            {
                "backbone.name": "swin_tiny_patch4_window7_224",
                "backbone.kwargs": {"embed_dim": 16, "num_heads": [1, 2, 4, 8]},
                "data.image_size": 56,
                "training.optimizer": "adamw",
            },
        ),
        (
            "vit",
            {
                "backbone.name": "vit_tiny_patch16_224",
                "data.image_size": 32,
                "training.optimizer": "adamw",
            },
        ),
    ],
)
def test_shipped_spaces_draw_nothing_that_is_refused(space, changes):
    job = _job(**changes, search={"space": space, "epochs": 1})
    assert trial_problems(job, job.search, known=()) == []


def test_every_shipped_space_is_tried():
    assert set(shipped_spaces()) == {
        *("mobilenet", "optimizers", "recipe_only", "resnet", "splits_only", "swin", "vit")
    }


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            "training.momentum: {kind: choice, choices: [0.0, 0.9]}",
            "training.momentum: every value .* 0.0 does",
        ),
        ("augmentation.mixup: {kind: float, low: 0.0, high: 0.4}", "augmentation.mixup: .* even number"),
        (
            "augmentation.color_jitter: {kind: float, low: 0.0, high: 0.4}",
            "0.4 does not .*beside policy: original",
        ),
    ],
)
def test_a_value_that_a_space_can_draw_is_refused_like_the_jobs_own(tmp_path, entry, words):
    space = tmp_path / "space.yaml"
    space.write_text(f"{entry}\ntraining.label_smoothing: {{kind: float, low: 0.0, high: 0.1}}\n")
    search = {"space": str(space), "epochs": 1, "trials": 2}
    job = _job(**{"search": search, "training.batch_size": 7, "augmentation.policy": "original-mstd0.5"})
    problems = "\n".join(trial_problems(job, job.search, known=recipe_problems(job)))
    assert re.search(words, problems)


def test_a_backbone_that_a_space_draws_is_tried_with_the_jobs_arguments(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("backbone.name: {kind: choice, choices: [resnet18, resnetv2_18]}\n")
    search = {"space": str(space), "epochs": 1, "trials": 2, "objective": "full_accuracy"}
    job = _job(**{"search": search, "training.batch_size": 2, "training.workers": 2})
    problems = trial_problems(job, job.search, known=try_network(job)[1])
    assert ["resnetv2_18" in problem for problem in problems] == [True]
