import subprocess
import sys

import optuna
import pytest

from pipeline.config import load_job, parse_job, presets
from pipeline.errors import RequestError
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.profiles import StageSize, resolve_split
from pipeline.search.fitting import load_space_for
from search_spaces import load_space, shipped_spaces

BLOCKS = (3, 4, 6, 3)


def sizes(num_blocks):
    return tuple(StageSize(blocks) for blocks in num_blocks)


STAGES = sizes(BLOCKS)
ADAMW = {"optimizer": "adamw", "lr": 5e-4, "weight_decay": 0.05}


def job(*, split="paper", space="resnet", trials=4, backbone="resnet50", search=None, **training):
    return parse_job(
        {
            "name": "a-job",
            "data": {"train": "builtin:digits"},
            "backbone": {"name": backbone},
            "split": split,
            "training": {"epochs": 10, **training},
            "search": {"space": space, "trials": trials, "epochs": 2, **(search or {})},
            "registry": {"model": "a-model"},
        }
    )


def write_space(folder, text):
    path = folder / "space.yaml"
    path.write_text(text)
    return str(path)


def problems_of(folder, text, *, num_blocks=BLOCKS, **settings):
    return load_space(write_space(folder, text)).check(job(**settings), sizes(num_blocks))


@pytest.mark.parametrize("space", sorted(shipped_spaces()))
@pytest.mark.parametrize("num_blocks", [(3, 4, 6, 3), (3, 3, 3, 3), (2, 9, 2)])
def test_every_shipped_space_fits_the_default_recipe_of_its_family(space, num_blocks):
    recipe = ADAMW if space in ("vit", "swin") else {}
    assert load_space(space).check(job(**recipe), sizes(num_blocks)) == []


@pytest.mark.parametrize("preset", sorted(name for name in presets() if load_job(name).search))
def test_every_preset_fits_the_space_that_it_names(preset):
    chosen = load_job(preset)
    network = AdaptiveDepthNetwork.from_timm(
        chosen.backbone.name,
        small_images=chosen.backbone.small_images,
        image_size=chosen.data.image_size,
        **chosen.backbone.kwargs,
    )
    stages = [layout.size for layout in network.layouts]
    assert load_space(chosen.search.space).check(chosen, stages) == []


@pytest.mark.parametrize("space", sorted(shipped_spaces()))
def test_every_shipped_space_says_purpose_cost_and_sources(space):
    header = shipped_spaces()[space].read_text()
    assert all(word in header for word in ("# Purpose:", "# Cost:", "# Sources:"))


@pytest.mark.parametrize("num_blocks", [(3, 4, 6, 3), (2, 2, 6, 2), (1, 2, 3, 4, 1), (3, 3, 3, 3), (5,)])
def test_every_suggested_split_is_feasible_and_keeps_every_stage_skippable(num_blocks):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = load_space("splits_only")
    for _ in range(30):
        split = space.suggest(study.ask(), sizes(num_blocks))["split"]
        assert resolve_split(split, sizes(num_blocks), network="a network") == tuple(split)
        assert all(point < max(2, blocks) for point, blocks in zip(split, num_blocks, strict=True))


@pytest.mark.parametrize("space", ["resnet", "recipe_only"])
def test_every_suggestion_is_accepted_by_the_job(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        design = load_space(space).suggest(study.ask(), STAGES)
        assert job().override(design).training.lr == design["training.lr"]


@pytest.mark.parametrize("split", ["paper", [1, 3, 5, 2]])
def test_start_point_suggests_exactly_the_jobs_own_settings(split):
    chosen, space = job(split=split), load_space("resnet")
    start = space.point(space.start_design(chosen, STAGES), STAGES)
    design = space.suggest(optuna.trial.FixedTrial(start), STAGES)
    assert design.pop("split") == list(resolve_split(split, STAGES, network="resnet50"))
    assert chosen.override(design).settings() == chosen.settings()


@pytest.mark.parametrize("num_blocks", [(3, 4, 6, 3), (1, 2, 3, 4, 1)])
def test_a_design_goes_back_to_the_point_that_it_came_from(num_blocks):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space, trial = load_space("resnet"), study.ask()
    design = space.suggest(trial, sizes(num_blocks))
    assert space.point(design, sizes(num_blocks)) == trial.params


def test_parameter_names_say_the_stage_and_keep_their_bounds():
    space = load_space("splits_only")
    assert {name: str(bounds) for name, bounds in space.parameters(sizes((3, 1, 6, 2))).items()} == {
        "split/1_of_4": "1..2",
        "split/3_of_4": "1..5",
    }


def test_five_mistakes_give_five_messages(tmp_path):
    problems = problems_of(
        tmp_path,
        """
        training.lrr: {kind: float, low: 0.02, high: 0.4}
        training.epochs: {kind: int, low: 2, high: 4}
        training.weight_decay: {kind: float, low: 1.0e-3, high: 1.0e-5, log: true}
        distillation.temperature: {kind: choice, choices: []}
        distillation.alpha: {kind: float, low: 0.6, high: 0.7}
        """,
    )
    assert len(problems) == 5


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "training.lrr: {kind: float, low: 0.02, high: 0.4}",
            "got 'training.lrr'; did you mean 'training.lr'",
        ),
        ("lr: {kind: float, low: 0.02, high: 0.4}", "got 'lr'; did you mean 'training.lr'"),
        (
            "training.epochs: {kind: int, low: 2, high: 4}",
            "'training.epochs': search.epochs is the length",
        ),
        ("training.workers: {kind: int, low: 1, high: 4}", "'training.workers': trials are placed"),
        (
            "data.image_size: {kind: int, low: 16, high: 32}",
            "'data.image_size', which must be equal for all",
        ),
        (
            "training.lr: {kind: float, low: 0.4, high: 0.02}",
            "got low=0.4 and high=0.02; swap them",
        ),
        ("training.lr: {kind: float, low: 0.1, high: 0.1}", "got low=0.1 and high=0.1; widen"),
        (
            "training.weight_decay: {kind: float, low: 0.0, high: 0.1, log: true}",
            "low > 0 .* got low=0;",
        ),
        (
            "distillation.temperature: {kind: choice, choices: []}",
            r"two or more different values, got \[\];",
        ),
        ("distillation.temperature: {kind: choice, choices: [1.0]}", r"different values, got \[1.0\];"),
        ("training.lr: {kind: float, low: 1e-2, high: 0.4}", "text '1e-2', .* write 1.0e-2"),
        ("training.lr: {kind: float, low: 0.02}", "'high' is required and missing"),
        (
            "training.lr: {kind: float, low: 0.02, high: 0.4, step: 2}",
            "'step' does not belong to kind float",
        ),
        (
            "training.lr: {kind: uniform, low: 0.02, high: 0.4}",
            "kind must be float, .* got 'uniform'",
        ),
        ("training.lr: {kind: float, low: .nan, high: 0.4}", "finite number, got nan"),
        ("training.lr: 0.1", "a range is a mapping with a kind, got 0.1"),
        ("split: {kind: int, low: 1, high: 2}", "split needs kind: split_points, got kind: int"),
        ("training.lr: {kind: split_points}", "fits only the key split, got 'training.lr'"),
        ("split: {kind: split_ratio, low: 0.8, high: 0.2}", "got low=0.8 and high=0.2; swap them"),
        ("split: {kind: split_ratios, low: 0.2, high: 1.5}", "less than or equal to 1, got 1.5"),
        ("training.optimizer: {kind: choice, choices: [sgd, adamw]}", "write kind: conditional"),
        (
            "training.optimizer: {kind: conditional, choices: {sgd: {}}}",
            r"two or more different values, got \['sgd'\]",
        ),
        (
            "training.optimizer: {kind: conditional, choices: {sgd: {}, adamw: {training.lrr: {}}}}",
            "training.optimizer=adamw: training.lrr: .* did you mean 'training.lr'",
        ),
        (
            "{training.lr: {kind: float, low: 0.01, high: 0.4}, training.optimizer: {kind: conditional, "
            "choices: {sgd: {training.lr: {kind: float, low: 0.01, high: 0.4}}, adamw: {}}}}",
            "a key has one range, this one stands in training.optimizer and in the space",
        ),
        ("distillation.alpha: {kind: float, low: 0.5, high: 1.0}", "must fit the job, 1.0 does not"),
        (
            "distillation.temperature: {kind: choice, choices: [1.0, warm]}",
            "must fit the job, 'warm' does not",
        ),
        (
            "training.lr: {kind: float, low: 0.2, high: 0.4}",
            "own setting, training.lr: 0.1 lies outside 0.2..0.4",
        ),
        (
            "training.decay_rate: {kind: float, low: 0.1, high: 0.2}",
            "decay_rate has no effect with schedule: cosine",
        ),
    ],
)
def test_a_mistake_is_named_with_its_value(tmp_path, entry, message):
    with pytest.raises(RequestError, match=message):
        raise RequestError(problems_of(tmp_path, entry))


def test_space_that_leaves_one_design_is_refused(tmp_path):
    problems = problems_of(tmp_path, "split: {kind: split_points}", num_blocks=(2, 2, 2, 2))
    with pytest.raises(RequestError, match=r"one design for stages of \[2, 2, 2, 2\] blocks; add a range"):
        raise RequestError(problems)


def test_more_trials_than_designs_are_refused(tmp_path):
    problems = problems_of(tmp_path, "split: {kind: split_points}", num_blocks=(3, 3, 1, 1), trials=5)
    with pytest.raises(RequestError, match=r"got 5 trials and 4 designs .* write trials: 4"):
        raise RequestError(problems)


@pytest.mark.parametrize("split", [[3, 2, 2, 2], [2, 2, 2, 2]])
def test_split_that_makes_a_stage_mandatory_cannot_be_the_start(split):
    problems = load_space("splits_only").check(job(split=split), sizes((3, 3, 3, 2)))
    with pytest.raises(RequestError, match=r"own setting, split/._of_4: [32] lies outside 1\.\.[21]"):
        raise RequestError(problems)


def test_split_of_another_backbone_is_refused():
    with pytest.raises(RequestError, match=r"got 2 in \[1, 1\], resnet50 has 4 stages"):
        raise RequestError(load_space("resnet").check(job(split=[1, 1]), STAGES))


OPTIMIZERS = """
split: {kind: split_ratio, low: 0.3, high: 0.8}
training.optimizer:
  kind: conditional
  choices:
    sgd: {training.lr: {kind: float, low: 0.02, high: 0.4, log: true}}
    adamw: {training.lr: {kind: float, low: 5.0e-5, high: 4.0e-3, log: true}}
"""


def test_a_conditional_range_draws_what_belongs_to_its_choice(tmp_path):
    space = load_space(write_space(tmp_path, OPTIMIZERS))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert space.check(job(), STAGES) == []
    drawn = [space.suggest(study.ask(), STAGES) for _ in range(30)]
    assert {design["training.optimizer"] for design in drawn} == {"sgd", "adamw"}
    for design in drawn:
        low, high = {"sgd": (0.02, 0.4), "adamw": (5e-5, 4e-3)}[design["training.optimizer"]]
        assert low <= job().override(design).training.lr <= high


def test_designs_of_a_conditional_space_go_back_to_their_points(tmp_path):
    space = load_space(write_space(tmp_path, OPTIMIZERS))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        design = space.suggest(trial, STAGES)
        point = space.point(design, STAGES)
        assert point.keys() == trial.params.keys()
        assert space.suggest(optuna.trial.FixedTrial(point), STAGES) == design


@pytest.mark.parametrize(("low", "high", "points"), [(0.0, 1.0, [1, 1, 1, 1]), (0.3, 0.8, [1, 1, 2, 1])])
def test_ratios_bound_the_split_of_every_stage(tmp_path, low, high, points):
    space = load_space(write_space(tmp_path, f"split: {{kind: split_ratios, low: {low}, high: {high}}}"))
    lows = [int(str(range_).partition("..")[0]) for range_ in space.parameters(STAGES).values()]
    assert lows == points
    assert space.check(job(trials=2), STAGES) == []


def test_one_ratio_for_all_stages_contains_the_papers_split(tmp_path):
    space = load_space(write_space(tmp_path, "split: {kind: split_ratio, low: 0.0, high: 1.0}"))
    point = space.point(space.start_design(job(), STAGES), STAGES)
    assert space.suggest(optuna.trial.FixedTrial(point), STAGES) == {"split": [2, 2, 3, 2]}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    splits = {tuple(space.suggest(study.ask(), STAGES)["split"]) for _ in range(300)}
    assert len(splits) == space.num_designs(STAGES) == 8
    assert space.check(job(split=[1, 3, 1, 1]), STAGES)[0].count("no ratio in 0..1 gives [1, 3, 1, 1]") == 1


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            {"training.lr": 0.9},
            r"start_points\[0\]: a start point must lie in the space, training.lr: 0.9 lies",
        ),
        ({"split": [1, 1]}, r"split: \[1, 1\] has 2 points, there are 4 stages"),
        ({"training.momentum": 0.9}, "training.momentum: is not searched"),
    ],
)
def test_a_start_point_outside_the_space_is_refused(point, message):
    with pytest.raises(RequestError, match=message):
        raise RequestError(load_space("resnet").check(job(search={"start_points": [point]}), STAGES))


def test_a_job_outside_the_space_may_be_searched_where_it_does_not_come_first():
    outside = job(lr=5.0, search={"paper_first": False})
    assert load_space("resnet").check(outside, STAGES) == []
    assert "training.lr: 5.0 lies outside" in load_space("resnet").check(job(lr=5.0), STAGES)[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnett", "got 'resnett', .*did you mean 'resnet'"),
        ("qqq", "shipped spaces: mobilenet, optimizers, recipe_only, resnet"),
    ],
)
def test_unknown_space_is_refused_with_a_way_out(name, message):
    with pytest.raises(RequestError, match=message):
        load_space(name)


@pytest.mark.parametrize(
    ("text", "message"), [("", "holds None"), ("[1]", r"holds \[1\]"), ("a: [", "must be YAML")]
)
def test_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    with pytest.raises(RequestError, match=message):
        load_space(write_space(tmp_path, text))


def test_importing_spaces_imports_no_ray():
    code = "import search_spaces, sys; sys.exit('ray' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BACKBONES = "backbone.name: {kind: choice, choices: [resnet50, resnet34]}\nsplit: {kind: split_points}\n"


def test_split_points_follow_the_backbone_that_is_drawn(tmp_path):
    chosen = job(search={"objective": "full_accuracy"})
    space = load_space_for(chosen, write_space(tmp_path, BACKBONES))
    assert space.check(chosen, STAGES) == []
    assert {name: str(bounds) for name, bounds in space.parameters(STAGES).items()} == {
        "backbone.name": "one of ['resnet50', 'resnet34']",
        **{f"resnet50/split/{n}_of_4": f"1..{blocks - 1}" for n, blocks in enumerate(BLOCKS, start=1)},
        **{f"resnet34/split/{n}_of_4": f"1..{blocks - 1}" for n, blocks in enumerate(BLOCKS, start=1)},
    }
    assert space.num_designs(STAGES) == 120
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        design = space.suggest(trial, STAGES)
        assert {name.partition("/")[0] for name in trial.params if "/" in name} == {design["backbone.name"]}
        assert space.point(design, STAGES) == trial.params


@pytest.mark.parametrize(
    ("names", "search", "message"),
    [
        ("resnet50, resnet34", {}, "cannot be compared by objective: hypervolume"),
        ("resnet50, vgg11", {"objective": "full_accuracy"}, "backbone.name: vgg11: vgg11 cannot become"),
        ("resnet18, resnet34", {"objective": "full_accuracy"}, "backbone.name: 'resnet50' lies outside"),
    ],
)
def test_backbones_that_cannot_be_searched_are_refused(tmp_path, names, search, message):
    text = f"backbone.name: {{kind: choice, choices: [{names}]}}"
    chosen = job(search=search)
    with pytest.raises(RequestError, match=message):
        raise RequestError(load_space_for(chosen, write_space(tmp_path, text)).check(chosen, STAGES))
