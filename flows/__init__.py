"""Procedures: one file is one documented procedure, and reads like its runbook."""
