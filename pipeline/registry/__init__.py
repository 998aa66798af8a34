"""MLflow: the job's runs, and the one registered model version that a job leaves behind.

Only this package imports MLflow. `store` connects, `tracking` writes runs, `register` writes the version.
"""
