"""Ask an endpoint from a host, with what the host has: curl, else wget, else bash; nothing is left behind."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from infra import ssh
from infra.errors import UpkeepError
from infra.inventory import Endpoint, Host
from infra.network_errors import host_port
from infra.readings import EndpointReading, EndpointSample, Failure

# Per attempt one line "upkeep-sample TOOL EXIT STATUS SECONDS MESSAGE" ("-" where the tool cannot tell), and
# at the end the head and the body of the last answer. It arrives on stdin: any login shell will do.
_SCRIPT = r"""
export LC_ALL=C; umask 077
dir=$(mktemp -d) || exit 1; trap 'rm -rf "$dir"' EXIT; trap 'exit 1' HUP INT TERM
cd "$dir" && : >head && : >body || exit 1
cat >ca <<'UPKEEP_AUTHORITIES'
@AUTHORITIES@
UPKEEP_AUTHORITIES
has() { command -v "$1" >/dev/null 2>&1; }
now() { t=$(date +%s%3N 2>/dev/null); case $t in ''|*[!0-9]*) t=-;; esac; echo $t; }
ask_curl() {
  grep -q . ca && set -- --cacert ca; [ -n "$resolve" ] && set -- "$@" --resolve "$resolve"
  set -- -gsS -D head -o body -m $limit --noproxy '*' -A upkeep-health -w '%{http_code} %{time_total}' "$@"
  times=$(curl "$@" -- "$url" 2>err); code=$?
  status=${times% *}; seconds=${times#* }
}
ask_wget() {
  grep -q . ca && set -- --ca-certificate=ca
  wget --version >/dev/null 2>&1 && set -- "$@" --max-redirect=0 --tries=1 --no-proxy
  start=$(now)
  wget -q -S -O body -T $limit -U upkeep-health --header "Host: $name" "$@" "$direct" 2>head; code=$?
  took; tail -n 1 head >err; status=$(sed -n 's/^ *HTTP\/[0-9.]* \([0-9]*\).*/\1/p' head | tail -n 1)
}
ask_bash() {
  start=$(now); status=-
  timeout $limit bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$address" $port 2>err; code=$?; took
}
took() {
  end=$(now); seconds=-
  case $start$end in *-*) ;; *) seconds=$((end - start))e-3 ;; esac
}
case $url in tcp:*) has timeout && has bash && tool=bash ;; *) if has curl; then tool=curl; else
  [ -n "$direct" ] && has wget && tool=wget; fi ;; esac
[ -n "$tool" ] || { echo "upkeep-sample none 127 - - -"; exit 0; }
while [ $samples -gt 0 ]; do
  samples=$((samples - 1)); : >err; ask_$tool
  message=$({ grep "^curl: (" err || tail -n 1 err; } | head -n 1)
  echo "upkeep-sample $tool $code ${status:--} $seconds $message"
  case $code in 28|124) break ;; esac
done
echo upkeep-head; cat head; echo; echo upkeep-body; head -c 65536 body
"""
_CURL = {  # man curl, EXIT CODES
    6: Failure.NAME,
    7: Failure.CONNECT,
    28: Failure.TIMEOUT,
    51: Failure.CERTIFICATE,
    52: Failure.CONNECT,
    56: Failure.CONNECT,
    60: Failure.CERTIFICATE,
    77: Failure.VANTAGE,
}
_WGET = {4: Failure.CONNECT, 5: Failure.CERTIFICATE}  # man wget, EXIT STATUS
_BASH = {124: Failure.TIMEOUT}  # man timeout


def probe_from_host(endpoint: Endpoint, vantage: Host, samples: int) -> EndpointReading:
    """Ask an endpoint from a host, several times in one command.

    Returns:
        A reading also when the host could not be used: its failure is then `Failure.VANTAGE`.
    """
    limit = timedelta(seconds=samples * endpoint.timeout_s + 10)
    try:
        authorities = Path(endpoint.ca_file).read_text(encoding="ascii") if endpoint.ca_file else ""
        script = _variables(endpoint, samples) + _SCRIPT.replace("@AUTHORITIES@", authorities)
        output = ssh.session(vantage).run("sh -s", stdin=script, check=False, timeout=limit).stdout
    except (OSError, ValueError, UpkeepError) as error:
        return _unused(vantage, str(error))
    return parse_samples(endpoint, vantage, output)


def _variables(endpoint: Endpoint, samples: int) -> str:
    url = urlsplit(endpoint.url)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    direct = endpoint.url
    if endpoint.address and url.scheme == "https":
        direct = ""  # wget cannot ask one address for another's certificate
    elif endpoint.address:
        direct = url._replace(netloc=host_port(endpoint.address, port)).geturl()
    values = {
        "samples": samples,
        "limit": max(1, round(endpoint.timeout_s)),
        "url": endpoint.url,
        "direct": direct,
        "name": url.netloc.rpartition("@")[2],
        "address": endpoint.address or host,
        "port": port,
        "resolve": host_port(host, port) + ":" + endpoint.address if endpoint.address else "",
        "tool": "",
    }
    return "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in values.items())


def parse_samples(endpoint: Endpoint, vantage: Host, output: str) -> EndpointReading:
    """Read what the script printed."""
    lines, _, answer = output.partition("upkeep-head\n")
    head, _, body = answer.partition("\nupkeep-body\n")
    rows = [line.split(" ", 5)[1:] for line in lines.splitlines() if line.startswith("upkeep-sample ")]
    if not rows:
        return _unused(vantage, f"the probe printed no result but {output[:80]!r}")
    if rows[0][0] == "none":
        tools = "bash and timeout" if endpoint.url.startswith("tcp") else "curl"
        return _unused(
            vantage, f"{tools} must be installed on {vantage.name} to probe {endpoint.url} from there"
        )
    headers = {
        key.strip().lower(): value.strip() for key, _, value in (h.partition(":") for h in head.splitlines())
    }
    wanted = {key.lower(): headers.get(key.lower(), "") for key in endpoint.expect_headers}
    return EndpointReading(
        vantage.name,
        tuple(_sample(endpoint, row, wanted, body if endpoint.expect_body else "") for row in rows),
    )


def _sample(endpoint: Endpoint, row: list[str], headers: dict[str, str], body: str) -> EndpointSample:
    tool, exit_code, status_text, seconds_text, message = (*row, "")[:5]
    answered = status_text.isdigit() and int(status_text) > 0
    if exit_code == "0" or (answered and tool == "wget"):
        elapsed = None if seconds_text == "-" else float(seconds_text) * 1000
        return EndpointSample(elapsed, int(status_text) if answered else None, headers, body)
    table = {"curl": _CURL, "wget": _WGET, "bash": _BASH}[tool]
    default = Failure.CONNECT if tool == "bash" else Failure.PROTOCOL
    failure = table.get(int(exit_code), default)
    words = message.rpartition(": ")[2] if tool == "bash" else re.sub(r"^curl: \(\d+\) ", "", message)
    if failure is Failure.TIMEOUT:
        words = f"no answer within {endpoint.timeout_s:g} s"
    return EndpointSample(None, failure=failure, error=words.strip() or f"{tool} ended with {exit_code}")


def _unused(vantage: Host, sentence: str) -> EndpointReading:
    return EndpointReading(vantage.name, (EndpointSample(None, failure=Failure.VANTAGE, error=sentence),))
