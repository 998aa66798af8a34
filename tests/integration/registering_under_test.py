"""A driver that registers a tiny network; its arguments: tracking URI, and KEY=ACCURACY of each version."""

import sys
from dataclasses import replace

from pipeline.registry.register import RegisteredVersion, register_model
from pipeline.registry.store import connect, ensure_experiment
from pipeline.registry.tracking import JobRun
from tests.registry.conftest import ORIGIN, PREPROCESSING, table_of, tiny_network


def register(uri: str, key: str, top1: float) -> RegisteredVersion:
    """Register the network under a key, with that accuracy at every depth."""
    client = connect(uri)
    run = JobRun.open(
        client,
        ensure_experiment(client, "racing", artifact_root=None),
        name=key,
        key=key,
        params={},
        tags={},
    )
    table = table_of(4)
    return register_model(
        client,
        run,
        name="raced",
        key=key,
        network=tiny_network(),
        preprocessing=PREPROCESSING,
        class_names=["a", "b", "c"],
        table=replace(table, results=tuple(replace(row, top1=top1) for row in table.results)),
        origin=ORIGIN,
    )


if __name__ == "__main__":
    for text in sys.argv[2:]:
        key, _, top1 = text.partition("=")
        sys.stdout.write(f"{register(sys.argv[1], key, float(top1)).uri}\n")
