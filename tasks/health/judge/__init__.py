"""The decisions of `health`: from facts and readings to findings, without reaching out to the world."""

from tasks.health.judge.certificates import judge_tls
from tasks.health.judge.host import judge_host
from tasks.health.judge.names import judge_dns
from tasks.health.judge.network import judge_between, judge_endpoint, judge_latency

__all__ = ["judge_between", "judge_dns", "judge_endpoint", "judge_host", "judge_latency", "judge_tls"]
