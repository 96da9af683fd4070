"""Procedures: one file is one documented procedure, and reads like its runbook."""

import logging

for _name in (
    "flows",
    "tasks",
    "infra",
):  # Prefect hands their lines on from INFO up only if they have a level
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.INFO)
