"""What the doctor looks at, in order."""

from collections.abc import Sequence

from pipeline.config import S3Config

from .cluster import ray_cluster
from .findings import Check
from .nodes import TIMEOUT_S, Needs, Nodes
from .software import installed_versions
from .storage import object_store_clock, storage_works
from .tracking import TrackingStore

TRACKING = "tracking store"
STORAGE = "storage"
RAY = "Ray"
NODES = "nodes"


def all_checks(*, tracking_uri: str, storage: str, s3: S3Config, data: tuple[str, ...]) -> Sequence[Check]:
    """Return the checks of what a job uses.

    Args:
        tracking_uri: Where it is registered.
        storage: Where it is kept.
        s3: How object stores are reached.
        data: Locations of its images; none where no job is given.
    """
    store = TrackingStore(tracking_uri, storage, s3)
    nodes = Nodes(Needs(data, storage, s3))
    return (
        Check("installed versions", installed_versions),
        Check(TRACKING, store.reach),
        Check("MLflow's version", store.version, needs=(TRACKING,)),
        Check("runs", store.runs, needs=(TRACKING,)),
        Check("files of runs", store.artifacts, needs=(TRACKING, "runs")),
        Check("registered models", store.models, needs=(TRACKING,)),
        Check("server's clock", store.clock, needs=(TRACKING,)),
        Check(STORAGE, lambda: storage_works(storage, s3)),
        # Also where the storage fails: a wrong clock may be why.
        Check("object store's clock", lambda: object_store_clock(storage, s3)),
        *node_checks(nodes),
    )


def node_checks(nodes: Nodes) -> Sequence[Check]:
    """Return the checks of the cluster's nodes."""
    return (
        Check(RAY, ray_cluster),
        Check(NODES, nodes.reached, needs=(RAY,), timeout_s=2 * TIMEOUT_S),
        *(
            Check(name, look, needs=(NODES,))
            for name, look in (
                ("versions on nodes", nodes.versions),
                ("clocks of nodes", nodes.clocks),
                ("images from nodes", nodes.data),
                ("ways between nodes", nodes.peers),
                ("disks", nodes.disks),
                ("shared memory", nodes.shared_memory),
                ("open files", nodes.open_files),
            )
        ),
        Check("storage from nodes", nodes.storage, needs=(NODES, STORAGE)),
    )
