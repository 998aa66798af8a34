"""What the tests of cluster definitions look at: the files, and in YAML whatever lies in them."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster"
FIXTURES = Path(__file__).parent

KUBERAY = sorted(FOLDER.glob("kuberay/*.yaml"))
CLOUD = sorted(FOLDER.glob("cloud/*.yaml"))
RAY_UP = [*CLOUD, FOLDER / "local.yaml"]
SHELL = [FOLDER / "static/ray_node.sh", FOLDER / "slurm/skipline.sbatch"]
DOCKERFILE = FOLDER / "image/Dockerfile"
DEFINITIONS = [*KUBERAY, *RAY_UP, *SHELL, DOCKERFILE]

_SECRET = re.compile(
    r"""AKIA[0-9A-Z]{16}                                    # an AWS access key
    | -----BEGIN[ A-Z]+PRIVATE[ ]KEY
    | \b[0-9a-f]{32,}\b                                     # a token as Ray and this project make them
    | :// [^/\s:@]+ : [^/\s@$]+ @                           # a password in an address
    | (?: TOKEN | PASSWORD | SECRET | ACCESS_KEY | SECRET_KEY )
      ["']? \s* [:=] \s* ["']? (?![$.]|\s|["']?$) [\w+/][\w+/-]*  # a value that is neither $NAME nor ...
    """,
    re.VERBOSE,
)


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return data


def named(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def header(path: Path) -> str:
    """Return the comment at the head of a file, without `#`."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#!")]
    until = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#") for line in lines[:until])


def body(path: Path) -> str:
    """Return a file without the lines that are comments."""
    return "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))


def find_secrets(text: str) -> list[str]:
    """Return what looks like the value of a secret."""
    return [match.group() for match in _SECRET.finditer(text)]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in what YAML or JSON held."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(part)


def kuberay_problems(resource: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a custom resource of KubeRay, each with its place."""
    pods = json.loads(gzip.decompress((FIXTURES / "kubernetes_v1.33_pods.json.gz").read_bytes()))
    kinds = load(FIXTURES / "kuberay_v1.yaml")["$defs"]
    schema = {"$ref": f"#/$defs/{resource['kind']}", "$defs": {**pods["$defs"], **kinds}}
    errors = Draft202012Validator(schema).iter_errors(resource)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def cluster_spec(resource: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = resource["spec"]
    return spec.get("rayClusterSpec", spec)


def pod_specs(resource: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [mapping for mapping in walk(resource) if "containers" in mapping]


def ray_starts(path: Path) -> list[str]:
    """Return the commands of a file that start Ray's nodes, each on one line."""
    if path.suffix == ".yaml":
        return [
            command
            for key in ("head_start_ray_commands", "worker_start_ray_commands")
            for command in load(path).get(key, [])
            if "ray start" in command
        ]
    text = re.sub(
        r"\\\n\s*", "", "\n".join(line for line in path.read_text().splitlines() if line[:1] != "#")
    )
    return [line for line in text.splitlines() if "--head" in line or "--address=" in line]


def ray_versions(path: Path) -> set[str]:
    """Return the versions of Ray that a file names."""
    return set(re.findall(r"(?:rayVersion: \"|RAY_VERSION=|ray\[[\w,]+\]==)(\d[\w.]*)", path.read_text()))
