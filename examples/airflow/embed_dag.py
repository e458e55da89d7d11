"""A DAG that embeds the new rows of a lake every night, and then checks the record of the run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import (  # the same names in Airflow 2 and 3
    DAG,
    AirflowException,
    AirflowFailException,
    ObjectStoragePath,
    task,
)
from embed_command import ARGUMENTS, JOB, PYTHON, RUN_RECORD, check_record, is_hopeless


class EmbedOperator(SparkSubmitOperator):
    """Run the job. If its usage or configuration is wrong, don't retry."""

    def execute(self, context: Any) -> None:
        """See `SparkSubmitOperator`."""
        try:
            super().execute(context)
        except AirflowException as error:
            if is_hopeless(error):
                raise AirflowFailException(str(error)) from error
            raise


with DAG(
    "lakevec_embed",
    schedule="17 2 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    # One run embeds everything since the last one, so missed days need no runs of their own.
    catchup=False,
    max_active_runs=1,
) as dag:
    embed = EmbedOperator(
        task_id="embed",
        application=JOB,
        application_args=ARGUMENTS,
        env_vars={"PYSPARK_PYTHON": PYTHON},
        conn_id="spark_default",
        name="lakevec embed",
        retries=2,
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=6),
    )

    @task
    def check_run() -> str:
        """Fail if the run failed, or if it quarantined too many rows."""
        with ObjectStoragePath(RUN_RECORD).open() as file:
            return check_record(json.load(file))

    embed >> check_run()
