"""A job's own way to images in a store: check, plan, and the loaders that every worker builds from it."""

import shutil

import pytest

from pipeline.config import parse_job
from pipeline.folder import JobFolder
from pipeline.preflight import find_problems
from pipeline.steps import prepare_images
from pipeline.training.plan import plan_training
from pipeline.training.session import build_train_loader, build_validation_loader


class _Silent:
    """Reports to nobody."""

    def advance(self, *_):
        pass

    def say(self, *_):
        pass


@pytest.mark.faults
@pytest.mark.parametrize("limit", [{}, {"cache_limit_gib": 1e-9}])
def test_workers_find_the_images_of_a_job_in_a_faulty_store(
    limit, store, parquet_file, tmp_path, cache_dir, caplog
):
    for shard in range(6):
        images = parquet_file([0, 1] * 10, f"all/{shard}.parquet").parent
    job = parse_job(
        {
            "name": "stored",
            "data": {
                "train": store.upload(images, "job"),
                "image_size": 16,
                "validation_fraction": 0.2,
                **limit,
            },
            "s3": {"endpoint_url": store.url},
            "backbone": {"name": "resnet18"},
            "training": {"epochs": 1, "batch_size": 16, "workers": 2},
            "registry": {"model": "stored"},
            "storage": str(tmp_path / "runs"),
        }
    )
    store.faults.refuse_every, store.faults.cut_every = 4, 5
    folder = JobFolder.of(job)
    assert find_problems(job) == []
    prepare_images(job, folder, _Silent())
    shutil.rmtree(cache_dir)  # as on another machine
    plan = plan_training(job, folder.data_plan)
    train = [build_train_loader(plan, rank=rank, world_size=2) for rank in range(2)]
    validation = [build_validation_loader(plan, rank=rank, world_size=2) for rank in range(2)]
    assert [sum(len(labels) for _, labels in batches) for batches in train] == [48, 48]
    assert sum(len(labels) for batches in validation for _, labels in batches) == 24
    assert "very-secret" not in caplog.text + job.model_dump_json()
