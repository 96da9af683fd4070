# Reports a host's facts as one JSON object. POSIX sh and awk alone; reads, and writes nothing but its answer.
#
#   sh -s -- MARK MODE UPDATES [UNIT...] < probe.sh
#
# MARK      the answer stands between two lines of it, so that whatever a profile or banner prints cannot harm
# MODE      facts: everything; system: what the service manager, journal and packages say; counters: the rest's
#           numbers that only mean something as a difference
# UPDATES   updates: ask the package manager as well (slow: about half a second); anything else: do not
# UNIT...   systemd units whose state is wanted
#
# sh runs the few tools whose answer no file holds and tags it; one awk reads everything else from /proc and /sys.
# The clock is read first and last, so that the reader can tell the way there from the way back (RFC 5905, 8).

LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

have() { command -v "$1" >/dev/null 2>&1; }

# seconds since 1970, as fine as date(1) here can say
now() { date +%s.%N; }

in_container() {
    [ -e /run/systemd/container ] || [ -e /run/host/container-manager ] || [ -e /run/.containerenv ] || [ -e /.dockerenv ]
}

say_container() {
    if [ -r /run/systemd/container ]; then cat /run/systemd/container
    elif [ -r /run/host/container-manager ]; then cat /run/host/container-manager
    elif [ -e /run/.containerenv ]; then echo podman
    elif [ -e /.dockerenv ]; then echo docker?    # an image may also be booted as a machine: awk looks at its root
    fi
}

say_units() {
    echo "@failed"
    if [ ! -d /run/systemd/system ] || ! have systemctl; then echo "!systemd does not run here"; return; fi
    systemctl list-units --state=failed --all --no-legend --no-pager --plain --full 2>/dev/null \
        || echo "!systemctl ended with $?"
    [ $# -eq 0 ] && return
    echo "@units"
    systemctl show --no-pager --property=LoadState,ActiveState,SubState -- "$@" 2>&1
}

say_journal() {
    echo "@journal"
    have journalctl || { echo "!journalctl is not installed"; return; }
    for file in /var/log/journal/*/system.journal /run/log/journal/*/system.journal; do
        [ -e "$file" ] || continue
        [ -r "$file" ] || break
        # one JSON object is one entry, however many lines its message has
        journalctl --quiet --no-pager --priority=err --since=-1h --output=json --output-fields=PRIORITY 2>/dev/null \
            | awk 'END { print NR }'
        return
    done
    if [ -e "${file:-}" ]; then echo "!permission denied: let the login user join the group systemd-journal"
    else echo "!no system journal that this login may see"; fi
}

say_clock_state() {
    echo "@synchronised"
    in_container && return
    if [ -e /run/systemd/timesync/synchronized ]; then echo yes
    elif have chronyc; then chronyc -n tracking 2>/dev/null | awk -F': *' '/^Leap status/ { print /Not sync/ ? "no" : "yes" }'
    elif [ -d /run/systemd/timesync ]; then echo no
    elif [ -d /run/systemd/system ] && have timedatectl; then timedatectl show --property=NTPSynchronized --value 2>/dev/null
    fi
}

say_reboot() {
    echo "@reboot"
    if [ -e /run/reboot-required ]; then
        echo "flag"
        [ -r /run/reboot-required.pkgs ] && cat /run/reboot-required.pkgs
    elif have unattended-upgrade || [ -e /usr/share/update-notifier/notify-reboot-required ]; then
        echo "no flag"
    fi
    echo "@kernels"
    in_container && return
    for file in /boot/vmlinuz-*; do [ -e "$file" ] && echo "${file#/boot/vmlinuz-}"; done
}

say_updates() {
    echo "@updates"
    if [ -r /var/lib/update-notifier/updates-available ]; then
        awk '/can be (applied|installed|updated)/ { print $1; found = 1; exit } END { if (!found) print 0 }' \
            /var/lib/update-notifier/updates-available
    elif [ "$1" != updates ]; then echo "!not asked for"
    elif have apt-get; then
        if answer=$(apt-get -s -o Debug::NoLocking=1 --with-new-pkgs upgrade 2>&1); then
            echo "$answer" | awk '/^Inst / { n++ } END { print n + 0 }'
        else echo "!apt-get: $(echo "$answer" | awk 'END { print }')"; fi
    elif have dnf; then
        answer=$(dnf -q -C check-update 2>&1); code=$?
        if [ $code -eq 0 ] || [ $code -eq 100 ]; then
            echo "$answer" | awk '/^Obsoleting/ { exit } NF == 3 { n++ } END { print n + 0 }'
        else echo "!dnf: $(echo "$answer" | awk 'END { print }')"; fi
    else echo "!neither apt nor dnf is installed"; fi
}

say_all() {
    echo "@mode $1"
    echo "@container"; say_container
    if [ "$1" != counters ]; then
        updates=$2; shift 2
        say_units "$@"; say_journal; say_clock_state; say_reboot; say_updates "$updates"
    fi
    # comm may hold anything but is 15 bytes at most: awk takes lines apart at the last parenthesis
    [ "$mode" = facts ] && { echo "@processes"; cat /proc/[0-9]*/stat 2>/dev/null; }
    echo "@end"
}

report() {
    awk -v began="$1" '
# Turns what probe.sh says, and what /proc and /sys hold, into one JSON object, left open for the closing clock.
# Any POSIX awk (mawk, gawk, busybox): no %d (32 bits in some), no length(array), no interval expressions.

function escaped(s) {
    gsub(/\\/, "\\\\", s)
    gsub(/"/, "\\\"", s)
    gsub(/[\001-\037\177]/, "?", s)
    return "\"" s "\""
}
function line_of(file,    line) {
    line = ""
    if ((getline line < file) < 0) line = ""
    close(file)
    return line
}
function put(key, json) { printf "%s\"%s\": %s", separator, key, json; separator = ",\n" }
function put_text(key, s) { put(key, escaped(s)) }
function put_number(key, n) { put(key, sprintf("%.0f", n)) }
function refuse(key, why) { refused = refused (refused == "" ? "" : ", ") "\"" key "\": " escaped(why) }
function share(key) { shared = shared (shared == "" ? "" : ", ") "\"" key "\"" }
function add(list, item) { return list (list == "" ? "" : ", ") item }

# mountinfo writes blanks and backslashes in octal, proc(5)
function plain(s) {
    gsub(/\\040/, " ", s); gsub(/\\011/, "\t", s); gsub(/\\134/, "\\", s)
    return s
}
function quoted(s) { gsub(/\047/, "\047\\\047\047", s); return "\047" s "\047" }

BEGIN { split(line_of("/proc/uptime"), uptime, " "); up = uptime[1] }

# ---- what sh said -------------------------------------------------------------------------------------------

/^@/ { section = substr($1, 2); if (section == "mode") mode = $2; next }
/^!/ { why[section] = substr($0, 2); next }
section == "container" { container = $1 }
section == "failed" && NF { failed = add(failed, escaped($1)) }
section == "units" {
    if ($0 == "") unit++
    else { n = index($0, "="); state[unit + 0, substr($0, 1, n - 1)] = substr($0, n + 1); units = unit + 1 }
}
section == "journal" { journal = $1 }
section == "synchronised" { synchronised = $1 }
section == "reboot" { reboot[++reboots] = $0 }
section == "kernels" { kernels[++kernel_count] = $0 }
section == "updates" { update_count = $1 }
section == "processes" { see_process($0) }

# proc(5), /proc/PID/stat: fields after the closing parenthesis; 12 + 13 cpu ticks, 20 start, 22 pages
function see_process(line,    open, field, pid, age) {
    open = index(line, "(")
    if (!open || !match(line, /.*\)/)) return
    pid = substr(line, 1, open - 2)
    split(substr(line, RLENGTH + 2), field, " ")
    if (pid == 1) pid_1_start = field[20] / 100
    age = up - field[20] / 100
    # a kernel thread has no pages, and a process of a moment no rate
    if (pid !~ /^[0-9]+$/ || field[22] + 0 <= 0 || age < 2) return
    name[pid] = substr(line, open + 1, RLENGTH - open - 1)
    rate[pid] = (field[12] + field[13]) / age
    pages[pid] = field[22] + 0
    offer(1, rate[pid], pid); offer(2, pages[pid], pid)
}
# keep the five best of cpu (kind 1); of memory (kind 2) ten, since five may be named already
function offer(kind, score, pid,    place) {
    place = 5 * kind + 1
    while (place > 1 && score > best[kind, place - 1]) {
        best[kind, place] = best[kind, place - 1]; who[kind, place] = who[kind, place - 1]
        place--
    }
    best[kind, place] = score; who[kind, place] = pid
}

# ---- what files say -----------------------------------------------------------------------------------------

function read_release(    line, n, key, value, file) {
    file = "/etc/os-release"
    if (line_of(file) == "") file = "/usr/lib/os-release"
    while ((getline line < file) > 0) {
        n = index(line, "=")
        key = substr(line, 1, n - 1); value = substr(line, n + 1)
        gsub(/^["\047]|["\047]$/, "", value)
        release[key] = value
    }
    close(file)
    put("os", "{\"id\": " escaped(release["ID"]) ", \"version\": " escaped(release["VERSION_ID"]) \
        ", \"name\": " escaped(release["PRETTY_NAME"]) "}")
}

function read_memory(    line, field, total, available, own, used, file) {
    while ((getline line < "/proc/meminfo") > 0) { split(line, field, /[: ]+/); info[field[1]] = field[2] * 1024 }
    close("/proc/meminfo")
    total = info["MemTotal"]
    available = ("MemAvailable" in info) ? info["MemAvailable"] : info["MemFree"] + info["Buffers"] + info["Cached"]
    own = line_of("/sys/fs/cgroup/memory.max")
    if (container != "" && own ~ /^[0-9]+$/ && own + 0 < total) {
        used = line_of("/sys/fs/cgroup/memory.current") + 0
        file = "/sys/fs/cgroup/memory.stat"    # page cache that the kernel takes back first is free to use
        while ((getline line < file) > 0) { split(line, field, " "); if (field[1] == "inactive_file") used -= field[2] }
        close(file)
        total = own; available = own - used
    } else if (container != "") share("memory")
    put("memory", "{\"total_bytes\": " sprintf("%.0f", total) ", \"available_bytes\": " sprintf("%.0f", available) "}")
    put("swap", "{\"total_bytes\": " sprintf("%.0f", info["SwapTotal"]) \
        ", \"available_bytes\": " sprintf("%.0f", info["SwapFree"]) "}")
    if (container != "") share("swap")
}

# Filesystems with a device of their own, once each: what psutil and df call physical, without read-only media.
function read_mounts(    line, field, n, i, half, source, type, id, mount) {
    while ((getline line < "/proc/filesystems") > 0) if (line !~ /^nodev/) { sub(/^[ \t]+/, "", line); on_disk[line] = 1 }
    close("/proc/filesystems")
    on_disk["zfs"] = on_disk["bcachefs"] = on_disk["virtiofs"] = 1
    on_disk["squashfs"] = on_disk["iso9660"] = on_disk["udf"] = on_disk["erofs"] = on_disk["cramfs"] = 0
    while ((getline line < "/proc/self/mountinfo") > 0) {
        n = split(line, field, " ")
        half = 0
        for (i = 7; i <= n; i++) if (field[i] == "-") { half = i; break }
        if (!half) continue
        type = field[half + 1]; source = plain(field[half + 2]); mount = plain(field[5])
        if (mount == "/") { root_source = source; root_subtree = field[4] }
        if ((mount != "/" && !on_disk[type]) || type == "rootfs" || mount ~ /\\012/) continue
        # what a container is shown of the machine underneath (systemd.io/CONTAINER_INTERFACE)
        if (mount ~ /^\/run\/host\//) continue
        if (source !~ /^\// && type != "zfs") id = field[3]
        else id = source
        # of several mounts of one device keep the root, then the whole one, then the shortest path
        if (mount == "/") { if (!(id in mount_of)) ids[++id_count] = id }
        else if (id in mount_of) {
            if (mount_of[id] == "/" || (field[4] != "/" && whole[id])) continue
            if ((field[4] == "/") == whole[id] && length(mount) >= length(mount_of[id])) continue
        } else ids[++id_count] = id
        mount_of[id] = mount; type_of[id] = type; source_of[id] = source
        number_of[id] = field[3]; whole[id] = (field[4] == "/")
        sealed[id] = (("," field[half + 3] ",") ~ /,ro,/)
    }
    close("/proc/self/mountinfo")
}

function read_filesystems(    command, i, id, line, field, list, size, files, device) {
    while ((getline line < "/etc/fstab") > 0) { split(line, field, " "); if (("," field[4] ",") ~ /,ro,/) meant[plain(field[2])] = 1 }
    close("/etc/fstab")
    command = "stat -f -c \047%S %b %f %a %c %d %n\047"
    for (i = 1; i <= id_count; i++) { command = command " " quoted(mount_of[ids[i]]); id_of[mount_of[ids[i]]] = ids[i] }
    if (!id_count) command = ":"
    while (((command " 2>/dev/null") | getline line) > 0) {
        split(line, field, " ")
        sub(/^[0-9]+ [0-9]+ [0-9]+ [0-9]+ [0-9]+ [0-9]+ /, "", line)
        if (!(line in id_of) || field[2] == 0) continue
        id = id_of[line]; size = field[1]; files = field[5] + 0
        list = list (list == "" ? "" : ",\n  ") "{\"mount\": " escaped(line) ", \"device\": " escaped(source_of[id]) \
            ", \"type\": " escaped(type_of[id]) sprintf(", \"size_bytes\": %.0f, \"used_bytes\": %.0f, \"available_bytes\": %.0f", \
            size * field[2], size * (field[2] - field[3]), size * field[4]) \
            ", \"inodes\": " (files ? sprintf("%.0f", files) : "null") \
            ", \"inodes_used\": " (files ? sprintf("%.0f", files - field[6]) : "null") \
            ", \"read_only\": " (sealed[id] && !(line in meant) ? "true" : "false") "}"
    }
    close(command " 2>/dev/null")
    put("filesystems", "[" list "]")
}

# the names of device-mapper, for filesystems that hide their device number (btrfs)
function mapped(kernel_name) { return (kernel_name ~ /^dm-/) ? "/dev/mapper/" line_of("/sys/block/" kernel_name "/dm/name") : "" }

# IFF_UP is the lowest bit; virtual interfaces have no carrier to know of; without /sys nobody can tell
# (the file carrier is not asked: it fails while an interface is down, and mawk dies of that)
function is_up(operstate, flags) { return operstate == "" || ((operstate == "up" || operstate == "unknown") && flags ~ /[13579bdf]$/) }

function read_counters(    field, line, busy, total, wait, i, n, id, list, links, own, up_now, foreign, device) {
    split(line_of("/proc/stat"), field, " ")
    # user nice system idle iowait irq softirq steal, 1/100 s; guest time is in user time already, proc(5)
    for (i = 2; i <= 9; i++) total += field[i]
    wait = field[6] / 100; busy = (total - field[5] - field[6]) / 100; total = total / 100
    if (container != "") {
        own = ""
        while ((getline line < "/sys/fs/cgroup/cpu.stat") > 0) if (line ~ /^usage_usec/) { split(line, field, " "); own = field[2] / 1000000 }
        close("/sys/fs/cgroup/cpu.stat")
        # a cgroup namespace shows the account of the container; the root of the machine has no cgroup.type
        if (own != "" && line_of("/sys/fs/cgroup/cgroup.type") != "") {
            busy = own; total = up * cpus; wait = 0
            refuse("cpu_iowait", "a container does not account for it")
        } else share("cpu")
    }
    for (i = 1; i <= id_count; i++) { wanted[number_of[ids[i]]] = 1; wanted[source_of[ids[i]]] = 1 }
    while ((getline line < "/proc/diskstats") > 0) {
        n = split(line, field, " ")
        if (!((field[1] ":" field[2]) in wanted) && !(("/dev/" field[3]) in wanted) && !(mapped(field[3]) in wanted)) continue
        if (container != "" && field[3] !~ /^loop/) foreign = 1
        list = add(list, "{\"device\": " escaped(field[3]) sprintf(", \"read_bytes\": %.0f, \"written_bytes\": %.0f, \"busy_ms\": %.0f}", \
            field[6] * 512, field[10] * 512, field[13]))
    }
    close("/proc/diskstats")
    if (foreign) share("disk_io")
    while ((getline line < "/proc/net/dev") > 0) {
        if (!(n = index(line, ":"))) continue
        device = substr(line, 1, n - 1); gsub(/ /, "", device)
        if (device == "lo") continue
        split(substr(line, n + 1), field, " ")
        up_now = is_up(line_of("/sys/class/net/" device "/operstate"), line_of("/sys/class/net/" device "/flags"))
        links = links (links == "" ? "" : ",\n  ") "{\"name\": " escaped(device) ", \"up\": " (up_now ? "true" : "false") \
            sprintf(", \"rx_bytes\": %.0f, \"rx_packets\": %.0f, \"rx_errors\": %.0f, \"rx_dropped\": %.0f", field[1], field[2], field[3], field[4]) \
            sprintf(", \"tx_bytes\": %.0f, \"tx_packets\": %.0f, \"tx_errors\": %.0f, \"tx_dropped\": %.0f}", field[9], field[10], field[11], field[12])
    }
    close("/proc/net/dev")
    put("counters", sprintf("{\"at_s\": %.2f, \"cpu_busy_s\": %.2f, \"cpu_iowait_s\": %.2f, \"cpu_total_s\": %.2f", up, busy, wait, total) \
        ",\n \"disks\": [" list "],\n \"interfaces\": [" links "]}")
}

function count_cpus(    line) {
    while ((getline line < "/proc/stat") > 0) if (line ~ /^cpu[0-9]/) cpus++
    close("/proc/stat")
}

# ---- what follows from both ---------------------------------------------------------------------------------

function put_units(    i, list) {
    if ("failed" in why) { put("failed_units", "null"); refuse("failed_units", why["failed"]) }
    else put("failed_units", "[" failed "]")
    for (i = 0; i < units; i++)
        list = add(list, "{\"active\": " escaped(state[i, "ActiveState"]) ", \"sub\": " escaped(state[i, "SubState"]) \
            ", \"load\": " escaped(state[i, "LoadState"]) "}")
    put("units", "[" list "]")
}

# true when version a is older than b: runs of digits compare as numbers, the rest as text
function older(a, b,    x, y) {
    while (a != "" && b != "") {
        if (match(a, /^[0-9]+/)) {
            x = substr(a, 1, RLENGTH); a = substr(a, RLENGTH + 1)
            if (!match(b, /^[0-9]+/)) return 0
            y = substr(b, 1, RLENGTH); b = substr(b, RLENGTH + 1)
            if (x + 0 != y + 0) return x + 0 < y + 0
        } else {
            x = substr(a, 1, 1); a = substr(a, 2)
            y = substr(b, 1, 1); b = substr(b, 2)
            if (x != y) return x < y
        }
    }
    return a == "" && b != ""
}
# letters alone tell kernels of one flavour (amd64, generic, el9) from rescue and other images
function flavour(version) { gsub(/[^a-z]/, "", version); return version }

function put_reboot(running,    i, newest, known, due, list) {
    newest = running
    for (i = 1; i <= kernel_count; i++) {
        if (kernels[i] == running) known = 1
        if (flavour(kernels[i]) == flavour(running) && older(newest, kernels[i])) newest = kernels[i]
    }
    # a machine that boots a kernel from outside /boot has none to fall behind
    if (known && newest != running) { due = 1; list = escaped("kernel " newest " is installed, " running " runs") }
    if (reboots && reboot[1] == "flag") {
        due = 1
        for (i = 2; i <= reboots; i++) if (!(reboot[i] in listed)) { listed[reboot[i]] = 1; list = add(list, escaped(reboot[i])) }
        if (reboots == 1) list = add(list, escaped("/run/reboot-required"))
    }
    put("reboot", "{\"required\": " (due ? "true" : (known || reboots) ? "false" : "null") ", \"reasons\": [" list "]}")
}

function put_count(key, section, n) {
    if (section in why) { put(key, "null"); refuse(key, why[section]) }
    else put(key, n ~ /^[0-9]+$/ ? n : "null")
}

function page_size(    line, field) {
    while ((getline line < "/proc/self/smaps") > 0) if (line ~ /^KernelPageSize:/) { split(line, field, " "); break }
    close("/proc/self/smaps")
    return field[2] ? field[2] * 1024 : 4096
}

# the five that use most cpu over their life, then the five of the rest that use most memory
function put_processes(    page, kind, place, pid, list, count) {
    page = page_size()
    for (kind = 1; kind <= 2; kind++)
        for (place = 1; place <= 5 * kind && count < 5 * kind; place++) {
            pid = who[kind, place]
            if (pid == "" || pid in shown) continue
            shown[pid] = 1; count++
            list = add(list, "{\"pid\": " pid ", \"command\": " escaped(name[pid]) \
                sprintf(", \"cpu_percent\": %.1f, \"memory_bytes\": %.0f}", rate[pid], pages[pid] * page))
        }
    put("top_processes", "[" list "]")
}

function architecture(    s) {
    s = line_of("/proc/sys/kernel/arch")
    if (s == "") { "uname -m" | getline s; close("uname -m") }
    return s
}

END {
    printf "{"
    put_text("began", began)
    read_mounts()
    # an image with the mark of docker that has a whole device for its root is a machine
    if (container == "docker?") container = (root_source ~ /^\/dev\// && root_subtree == "/") ? "" : "docker"
    put("container", container == "" ? "null" : escaped(container))
    count_cpus()
    put_number("cpus", cpus)
    if (mode != "system") read_counters()
    if (mode != "counters") {
        read_release()
        put_text("hostname", line_of("/proc/sys/kernel/hostname"))
        kernel = line_of("/proc/sys/kernel/osrelease")
        put_text("kernel", kernel)
        put_text("architecture", architecture())
        put_text("boot_id", line_of("/proc/sys/kernel/random/boot_id"))
        put_units()
        put_reboot(kernel)
        put_count("pending_updates", "updates", update_count)
        put_count("log_errors", "journal", journal)
        put("synchronised", synchronised == "yes" ? "true" : synchronised == "no" ? "false" : "null")
        if (container != "") share("clock")
    }
    if (mode == "facts") {
        # inside a container the age of its PID 1; where /proc is its own, that is its uptime already
        put("uptime_s", sprintf("%.2f", pid_1_start < up ? up - pid_1_start : up))
        split(line_of("/proc/loadavg"), average, " ")
        put("load", "[" average[1] ", " average[2] ", " average[3] "]")
        if (container != "") share("load")
        read_memory()
        read_filesystems()
        put_processes()
    }
    put("shared", "[" shared "]")
    put("refused", "{" refused "}")
}
'
}

main() {
    mark=$1 mode=$2 updates=$3
    shift 3
    echo
    echo "$mark"
    began=$(now)
    say_all "$mode" "$updates" "$@" </dev/null 2>/dev/null | report "$began"
    echo ",\"ended\": \"$(now)\"}"
    echo "$mark"
}

main "$@"
