"""Which settings of a job file a search may change, and why not the others."""

import difflib

from pipeline.config import all_keys

SPLIT, BACKBONE = "split", "backbone.name"

SEARCHABLE = (
    SPLIT,
    BACKBONE,
    "training.lr",
    "training.momentum",
    "training.weight_decay",
    "training.warmup_epochs",
    "training.decay_rate",
    "training.layer_decay",
    "training.clip_grad",
    "training.ema_decay",
    "training.label_smoothing",
    "distillation.alpha",
    "distillation.temperature",
    "distillation.features",
    "augmentation.color_jitter",
    "augmentation.erasing",
    "augmentation.mixup",
    "augmentation.cutmix",
)
"""Settings that change how good a network becomes and that a short trial can tell apart."""

CONDITIONS = (
    BACKBONE,
    "training.optimizer",
    "distillation.students",
    "distillation.student_labels",
)
"""Settings that decide which ranges others have; searched by kind conditional alone."""

SPLIT_KINDS = ("split_points", "split_ratios", "split_ratio")
OTHER_KINDS = ("float", "int", "choice", "conditional")

REFUSED = {
    "seed": "the seed of a trial follows from the job's",
    "training.epochs": "search.epochs is the length of a trial, training.epochs the winner's",
    "training.batch_size": "memory and speed of the job follow from it",
    "training.workers": "trials are placed on the cluster by it",
    "training.cpus_per_worker": "trials are placed on the cluster by it",
    "training.use_gpu": "trials are placed on the cluster by it",
    "training.precision": "it decides how fast a network trains, not which one is best",
    "training.optimizer": "a range of training.lr fits one; write kind: conditional with one for each",
    "training.schedule": "a trial follows the job's schedule; write one job per schedule",
    "training.milestones": "a trial's are the job's, scaled to its length",
}


def key_problems(key: str, kind: str | None) -> list[str]:
    """Return why a key of a space cannot be searched with this kind of range; nothing if it can.

    Nor is there anything to say of a kind that does not exist.
    """
    if key not in (CONDITIONS if kind == "conditional" else SEARCHABLE):
        return [f"{key}: {_refusal(key)}"]
    if key == SPLIT and kind in OTHER_KINDS:
        return [f"{key}: split needs kind: split_points, got kind: {kind}; write {{kind: split_points}}"]
    if key == BACKBONE and kind in ("float", "int", *SPLIT_KINDS):
        return [
            f"{key}: a backbone is one of some names, got kind: {kind}; write kind: choice or conditional"
        ]
    if key != SPLIT and kind in SPLIT_KINDS:
        return [f"{key}: kind: {kind} fits only the key split, got {key!r}; write float, int or choice"]
    return []


def _refusal(key: str) -> str:
    if key in REFUSED:
        return f"a space cannot search {key!r}: {REFUSED[key]}; set it in the job file"
    if key in all_keys():
        return (
            f"a space cannot search {key!r}, which must be equal for all trials; "
            f"set it in the job file; searchable: {', '.join(SEARCHABLE)}"
        )
    near = difflib.get_close_matches(key, SEARCHABLE, n=1, cutoff=0.6) or [
        known for known in SEARCHABLE if known.rpartition(".")[2] == key
    ]
    way_out = f"did you mean {near[0]!r}?" if near else f"searchable: {', '.join(SEARCHABLE)}"
    return f"a space's keys are keys of the job file, got {key!r}; {way_out}"
