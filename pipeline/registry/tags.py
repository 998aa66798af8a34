"""The names of what Skipline writes into MLflow's tags; changing one orphans what older jobs registered."""

from typing import Final

JOB_KEY: Final = "skipline.job_key"
TRIAL_ID: Final = "skipline.trial_id"
PARENT_RUN: Final = "mlflow.parentRunId"

KIND: Final = "skipline.kind"
BACKBONE: Final = "skipline.backbone"
SPLIT: Final = "skipline.split"
OUTCOME: Final = "skipline.outcome"

NOTE: Final = "mlflow.note.content"
NOTE_DIGEST: Final = "skipline.note_digest"
USER: Final = "mlflow.user"
SOURCE_NAME: Final = "mlflow.source.name"
SOURCE_TYPE: Final = "mlflow.source.type"
LOGGED_ARTIFACTS: Final = "mlflow.loggedArtifacts"
EXPERIMENT_KIND: Final = "mlflow.experimentKind"

MODEL_KEY: Final = "skipline.key"
PROFILES: Final = "skipline.profiles"
SHA256: Final = "skipline.sha256."
CHECKSUMS: Final = "skipline.checksums"
LATENCIES: Final = "skipline.latencies."
REPORT: Final = "skipline.report"

GATE: Final = "skipline.gate"
PROMOTION: Final = "skipline.promotion"
ROLLBACK: Final = "skipline.rollback"

MODEL_VERSIONS_LINK: Final = "mlflow.modelVersions"
