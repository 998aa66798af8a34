import logging
import multiprocessing
import pickle
import shutil
import socket
import time

import numpy as np
import pytest
import torch

from pipeline.config import S3Config
from pipeline.data.data_plan import DataPlan
from pipeline.data.loading import ImageDataset, train_loader, validation_loader
from pipeline.data.s3 import staging
from pipeline.data.sources import check_location, open_source
from pipeline.data.transforms import Preprocessing, eval_transform
from pipeline.errors import JobError, RequestError
from pipeline.storage import object_store
from pipeline.storage.object_store import make_client
from tests.s3_server import BUCKET

PLAIN = eval_transform(Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear"))


def only_problem(location, s3):
    """Return the message of a location with exactly one problem."""
    (problem,) = check_location(location, s3)
    return problem


@pytest.fixture(params=["folder", "parquet", "one file", "pattern", "tar", "saved_to_disk"])
def pair(request, image_folder, parquet_file, tar_samples, saved_to_disk, store):
    """A local location and the same in the store."""
    prefix = f"kinds/{request.param.replace(' ', '-')}"
    if request.param == "folder":
        local = image_folder(cat=3, dog=2)
    elif request.param == "tar":
        tar_samples([0, 1, 0], "train-000.tar")
        local = tar_samples([1, 0], "train-001.tar").parent
        (local / "classes.txt").write_text("ant\nbee")
    elif request.param == "saved_to_disk":
        local = saved_to_disk([0, 1, 0, 1, 0], num_files=2)
    else:
        parquet_file([0, 1, 0], name="all/train-0.parquet")
        local = parquet_file([1, 0], name="all/train-1.parquet").parent
    remote = store.upload(local, prefix)
    last = {"one file": "/train-1.parquet", "pattern": "/train-*.parquet"}.get(request.param, "")
    return f"{local}{last}", f"{remote}{last}"


def test_a_store_gives_the_images_of_the_local_copy(pair, s3):
    local, remote = open_source(pair[0]), open_source(pair[1], s3)
    assert (remote.class_names, remote.labels.tolist()) == (local.class_names, local.labels.tolist())
    assert [remote.read(row).tobytes() for row in range(len(remote))] == [
        local.read(row).tobytes() for row in range(len(local))
    ]
    assert remote.where(1).split()[-1] == local.where(1).split()[-1]
    assert check_location(pair[1], s3) == []


@pytest.fixture
def folder(image_folder, store):
    """The location of a folder in the store with 24 images of two classes."""
    return store.upload(image_folder(cat=12, dog=12), "pets")


def test_a_source_is_reopened_from_its_pickle_without_asking_the_store(folder, s3, store):
    source = open_source(folder, s3)
    text = pickle.dumps(source)
    store.faults.refuse_every = 1
    again = pickle.loads(text)
    assert (again.location, again.fingerprint) == (folder, source.fingerprint)
    assert again.read(3).tobytes() == source.read(3).tobytes()


def test_credentials_are_in_no_pickle_and_no_log(folder, s3, caplog):
    caplog.set_level(logging.DEBUG, logger="pipeline")
    text = pickle.dumps(open_source(folder, s3))
    assert b"very-secret" not in text
    assert "very-secret" not in caplog.text


def test_objects_are_fetched_once_a_machine(folder, s3, store):
    open_source(folder, s3)
    served = store.faults.served["whole"]
    open_source(folder, s3)
    assert (served, store.faults.served["whole"]) == (24, 24)


def test_processes_that_start_together_fetch_every_object_once(folder, s3, store):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_source, args=(folder, s3)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert store.faults.served["whole"] == 24


def test_the_fingerprint_is_the_same_on_every_machine(folder, s3, cache_dir):
    first = open_source(folder, s3).fingerprint
    shutil.rmtree(cache_dir)
    time.sleep(0.01)
    assert open_source(folder, s3).fingerprint == first


@pytest.mark.faults
def test_throttling_and_cut_connections_are_survived_and_told_once(folder, s3, store, image_folder, caplog):
    caplog.set_level(logging.INFO, logger="pipeline")
    store.faults.refuse_every, store.faults.cut_every = 10, 7
    source = open_source(folder, s3)
    local = open_source(str(image_folder("again", cat=12, dog=12)))
    assert all(source.read(row).tobytes() == local.read(row).tobytes() for row in range(24))
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    refused, cut = store.faults.served["503"], store.faults.served["cut"]
    assert f"{refused} requests were repeated, {cut} transfers were cut and taken up again" in told[0]


@pytest.mark.faults
def test_a_cut_transfer_goes_on_where_it_broke(store, s3, parquet_file, caplog):
    caplog.set_level(logging.INFO, logger="pipeline")
    path = parquet_file([0, 1] * 20)
    store.faults.cut_every = 2
    source = open_source(store.upload(path, "cut") + f"/{path.name}", s3)
    store.faults._count = 1
    open_source(store.upload(parquet_file([0, 1] * 30), "cut2") + f"/{path.name}", s3)
    transferred = f"staged 1 objects, {path.stat().st_size / 2**20:.1f} MiB"
    assert len(source) == 40
    assert transferred in caplog.text
    assert store.faults.served["cut"] == 1


@pytest.mark.faults
def test_a_store_that_never_stops_refusing_fails_the_job(folder, s3, store, monkeypatch):
    monkeypatch.setattr(staging, "make_client", _impatient_client)
    store.faults.refuse_every = 1
    with pytest.raises(JobError, match=r"still refuses 's3://images/pets' after many tries \(SlowDown\)"):
        open_source(folder, s3)


def _impatient_client(s3):
    return make_client(s3, max_attempts=1)


@pytest.mark.faults
def test_a_staging_that_was_interrupted_is_gone_on_with(folder, s3, store, monkeypatch):
    monkeypatch.setattr(staging, "make_client", _impatient_client)
    store.faults.refuse_every = 20
    with pytest.raises(JobError, match="what has arrived is kept"):
        open_source(folder, s3)
    arrived = store.faults.served["whole"]
    store.faults.clear()
    assert len(open_source(folder, s3)) == 24
    assert arrived > 0
    assert store.faults.served["whole"] <= 24 - arrived + 16


@pytest.mark.faults
def test_objects_that_changed_after_the_check_are_refused(folder, s3, store, prepare, cache_dir):
    plan = prepare(folder, s3=s3)
    store.client().put_object(Bucket=BUCKET, Key="pets/cat/0.png", Body=b"other")
    shutil.rmtree(cache_dir)
    with pytest.raises(JobError, match="names, sizes or ETags of the objects in 's3://images/pets' have"):
        train_loader(plan, PLAIN, batch_size=4, rank=0, world_size=1, seed=0, num_loader_workers=0)


def test_a_store_too_large_for_the_disk_is_refused(folder, s3, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(JobError, match=r"must have room for the data, 's3://images/pets' needs 0\.0 GiB"):
        open_source(folder, s3)


def test_a_plan_carries_what_reaches_the_store(folder, s3, prepare, tmp_path, cache_dir):
    prepare(folder, s3=s3).save(tmp_path / "plan.npz")
    shutil.rmtree(cache_dir)
    plan = DataPlan.load(tmp_path / "plan.npz")
    loaders = [
        train_loader(plan, PLAIN, batch_size=5, rank=0, world_size=1, seed=0, num_loader_workers=1),
        validation_loader(plan, PLAIN, batch_size=5, rank=0, world_size=1, num_loader_workers=0),
    ]
    assert [sum(len(labels) for _, labels in loader) for loader in loaders] == [15, 6]
    assert plan.s3 == s3


def test_a_local_plan_carries_no_store(digits_plan):
    assert digits_plan.s3 is None


def test_the_address_of_a_store_is_no_part_of_the_data(folder, s3, prepare):
    plan = prepare(folder, s3=s3)
    other = prepare(folder, s3=S3Config(endpoint_url=s3.endpoint_url, addressing_style="path"))
    assert plan.fingerprint == other.fingerprint


def test_a_loader_process_reads_the_copy(folder, s3):
    dataset = ImageDataset(folder, np.arange(2), np.arange(2), PLAIN, s3=s3)
    assert torch.equal(dataset[1][0], pickle.loads(pickle.dumps(dataset))[1][0])


def test_hidden_and_other_objects_stay_in_the_store(store, s3, image_folder):
    root = image_folder(cat=1, dog=1)
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / ".hidden.png").write_bytes(b"")
    location = store.upload(root, "hidden")
    store.client().put_object(Bucket=BUCKET, Key="hidden/../../outside.png", Body=b"")
    assert len(open_source(location, s3)) == 2
    assert store.faults.served["whole"] == 2


def test_a_saved_data_set_of_splits_names_them_in_the_store(store, s3, saved_to_disk):
    root = saved_to_disk([0, 1], name="saved/train").parent
    (root / "dataset_dict.json").write_text('{"splits": ["train"]}')
    location = store.upload(root, "splits")
    with pytest.raises(RequestError, match=r"holds several \(train\); name 's3://images/splits/train'"):
        open_source(location, s3)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://missing/data", "'s3://missing/data' must exist, http://127.0.0.1:"),
        ("s3://images/nothing", "'s3://images/nothing' holds 0 objects and none of these"),
        ("s3://images/pets/*.tar", "'s3://images/pets/*.tar' holds 0 objects"),
        ("s3://images/pets/../other", "must have plain parts, got 's3://images/pets/../other'"),
        ("s3://", "must be written s3://BUCKET/PREFIX, got 's3://'"),
    ],
)
def test_a_wrong_location_is_named(location, message, s3):
    assert message in only_problem(location, s3)


@pytest.mark.parametrize("location", ["s3://key:very-secret@images/x", "s3://very-secret@images/x"])
def test_credentials_in_a_location_are_refused_and_not_shown(location, s3):
    problem = only_problem(location, s3)
    assert "got s3://***; credentials come from the environment" in problem
    assert "very-secret" not in problem


def test_missing_credentials_show_the_way_out(s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    problem = only_problem("s3://images/x", s3)
    assert "must be found by the standard chain, it has none (NoCredentialsError); set AWS_" in problem


def test_a_store_that_is_not_there_is_said_in_time():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        s3 = S3Config(endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        start_s = time.monotonic()
        problem = only_problem("s3://images/x", s3)
    assert "the object store must answer, http://127.0.0.1:" in problem
    assert time.monotonic() - start_s < 15


def test_a_store_that_does_not_answer_is_said_in_time(monkeypatch):
    monkeypatch.setattr(object_store, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        s3 = S3Config(endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        problem = only_problem("s3://images/x", s3)
    assert "must answer within 0.5 s, http://127.0.0.1:" in problem


def test_shards_of_two_parts_are_not_one_data_set(store, s3, tar_samples):
    tar_samples([0], "train-000.tar")
    location = store.upload(tar_samples([0], "val-000.tar").parent, "two-parts")
    problem = only_problem(location, s3)
    assert "'s3://images/two-parts' holds train, validation; write a pattern such as" in problem
    assert "'s3://images/two-parts/*train*.tar'" in problem


def test_an_endpoint_that_boto3_refuses_is_a_problem():
    problem = only_problem("s3://images/x", S3Config(endpoint_url="http://under_score-.example"))
    assert "cannot be asked (ValueError); check the s3 settings" in problem
