#!/usr/bin/env bash
# run.sh [-r ROUNDS] [-w "W ..."] [-t "T ..."] [-b T] [-c CPU] [-o DIR] [NAME=TEMPLATE ...]
#
# Times each workload natively and under each tool, in turn, ROUNDS times (5), and prints medians.
#   -w   workloads: w1 w1nofp w2 w3 w4 w5 w6          (w1 w2 w3 w4 w5 w6)
#   -t   tools: fdwatch bpf strace bpfk gdb           (fdwatch bpf; one that is not installed is left out)
#   -b   the tool that the last ratio is taken to     (bpf)
#   -c   hold everything on this CPU
#   -o   where the times and the outputs go           (target/bench/results)
# A NAME=TEMPLATE adds a tool of your own. A template is a list of words; the word {} becomes the workload's command, and
# {out}, wherever it stands, a file for the tool's output. Sizes come from the environment: W1_N W1_D W2_N W3_N
# W4_T W4_N W5_N. PYTHON is the interpreter of w5, FDWATCH the fdwatch to measure.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$top/target}/bench
fdwatch=${FDWATCH:-${CARGO_TARGET_DIR:-$top/target}/release/fdwatch}

# The calls that fdwatch looks at, for the tools that can be told to look at no others; ? excuses what a kernel lacks.
calls='?open,openat,?openat2,?creat,close,?close_range,dup,?dup2,dup3,fcntl,?pipe,pipe2,socket,socketpair,accept,accept4'
calls+=',?eventfd,eventfd2,?epoll_create,epoll_create1,timerfd_create,?signalfd,signalfd4,memfd_create,?inotify_init'
calls+=',inotify_init1,?pidfd_open,?pidfd_getfd,execve,execveat,?fork,?vfork,clone,?clone3'

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

rounds=5
workloads="w1 w2 w3 w4 w5 w6"
tools="fdwatch bpf"
base=bpf
cpu=
results=$bin/results
while getopts r:w:t:b:c:o:h option; do
    case $option in
        r) rounds=$OPTARG ;;
        w) workloads=$OPTARG ;;
        t) tools=$OPTARG ;;
        b) base=$OPTARG ;;
        c) cpu=$OPTARG ;;
        o) results=$OPTARG ;;
        h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

# Sets `work` to the command of workload $1.
workload() {
    case $1 in
        w1) work=("$bin/openclose" "${W1_N:-5000}" "${W1_D:-20}") ;;
        w1nofp) work=("$bin/openclose_nofp" "${W1_N:-5000}" "${W1_D:-20}") ;;
        w2) work=("$bin/getppid" "${W2_N:-500000}") ;;
        w3) work=("$bin/spawn" "${W3_N:-300}") ;;
        w4) work=("$bin/threads" "${W4_T:-4}" "${W4_N:-3000}") ;;
        w5) work=("$python" -B "$here/python.py" "${W5_N:-100}") ;;
        w6) work=(make -s -C "$bin/project" -B -j2) ;;
        *) echo "run.sh: no workload $1" >&2; exit 2 ;;
    esac
}

names=(native)
declare -A template=([native]='{}')
add() {
    local tool=${2%% *}
    tool=${tool/'{fdwatch}'/$fdwatch}
    if [[ $tool != '{}' ]] && ! command -v "$tool" >/dev/null; then
        echo "run.sh: $1 is left out: there is no $tool" >&2
        return
    fi
    names+=("$1")
    template[$1]=$2
}
for tool in $tools; do
    case $tool in
        fdwatch) add fdwatch '{fdwatch} audit -o {out} -- {}' ;;
        bpf) add bpf "strace -f --seccomp-bpf -e trace=$calls -o {out} {}" ;;
        strace) add strace 'strace -f -o {out} {}' ;;
        bpfk) add bpfk "strace -f -k --seccomp-bpf -e trace=$calls -o {out} {}" ;;
        gdb) add gdb 'gdb -nx -batch -x {here}/gdb_bt.gdb --args {}' ;;
        *) echo "run.sh: no tool $tool" >&2; exit 2 ;;
    esac
done
for own in "$@"; do
    case $own in
        ?*=?*) add "${own%%=*}" "${own#*=}" ;;
        *) echo "run.sh: $own is not NAME=TEMPLATE" >&2; exit 2 ;;
    esac
done

# Runs workload $2 under tool $1 once: a line in DIR/W.T.times.
one() {
    local file=$results/$2.$1 word words command=() pin=()
    workload "$2"
    read -ra words <<<"${template[$1]}"
    for word in "${words[@]}"; do
        if [[ $word == '{}' ]]; then
            command+=("${work[@]}")
        else
            word=${word/'{fdwatch}'/$fdwatch}
            word=${word/'{here}'/$here}
            command+=("${word//'{out}'/$file.out}")
        fi
    done
    [[ -z $cpu ]] || pin=(-c "$cpu")
    "$bin/timed" "${pin[@]}" "$file.times" "${command[@]}" >"$file.stdout" 2>"$file.stderr" </dev/null
}

# The middle of the numbers on stdin.
median() {
    sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# The median, smallest and largest of tool $1's time over tool $2's, round by round.
ratio() {
    [[ -s $results/$w.$2.times ]] || { echo - -; return; }
    local each
    each=$(paste -d' ' "$results/$w.$1.times" "$results/$w.$2.times" | awk '{ print $1 / $4 }')
    printf '%.2f %.2f-%.2f\n' "$(median <<<"$each")" "$(sort -g <<<"$each" | head -n1)" "$(sort -g <<<"$each" | tail -n1)"
}

row() {
    local wall rss status of_native native_range of_base
    wall=$(cut -d' ' -f1 "$results/$w.$1.times" | median)
    rss=$(cut -d' ' -f2 "$results/$w.$1.times" | sort -g | tail -n1)
    status=$(cut -d' ' -f3 "$results/$w.$1.times" | sort -un | paste -sd,)
    read -r of_native native_range < <(ratio "$1" native)
    read -r of_base _ < <(ratio "$1" "$base")
    printf '%-8s %-10s %9.4f %9s %15s %9s %8.1f  %s\n' \
        "$w" "$1" "$wall" "$of_native" "$native_range" "$of_base" "$(awk -v k="$rss" 'BEGIN { print k / 1024 }')" "$status"
}

python=${PYTHON:-$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null || echo python3)}
# Without CARGO_TARGET_DIR the Makefile's own, relative path is used: make cannot have spaces in names.
make -s -C "$here" ${CARGO_TARGET_DIR:+OUT="$bin"} all
mkdir -p "$results"
results=$(cd "$results" && pwd)
for w in $workloads; do workload "$w"; done

{
    printf '%-8s %-10s %9s %9s %15s %9s %8s  %s\n' work tool wall_s x_native range "x_$base" rss_MiB status
    for w in $workloads; do
        rm -f "$results/$w".*
        for ((i = 0; i < rounds; i++)); do
            # Each round begins with the next tool, so that none is always first.
            for ((j = 0; j < ${#names[@]}; j++)); do
                one "${names[(i + j) % ${#names[@]}]}" "$w"
            done
        done
        for name in "${names[@]}"; do row "$name"; done
    done
} | tee "$results/summary.txt"
