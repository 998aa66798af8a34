"""The names of what Skipline writes into MLflow's tags; changing one orphans what older jobs registered."""

from typing import Final

JOB_KEY: Final = "skipline.job_key"
TRIAL_ID: Final = "skipline.trial_id"
PARENT_RUN: Final = "mlflow.parentRunId"

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
