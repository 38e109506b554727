# Job control in a script: `set -m`, &, wait, kill %1, stop, bg, fg. For bash and dash.
set -m
say() { printf '%s\n' "$*"; }
# The shell's own word about its jobs, without a subshell, which would have none.
until_stopped() { until jobs >jobs.txt && grep -q Stopped jobs.txt; do :; done; }

(exit 7) & wait $!; say "wait: $?"
sleep 100 & kill %1; wait %1; say "killed: $?"
sleep 100 & kill -INT %1; wait %1; say "interrupted: $?"
sleep 100 & kill -9 $!; wait $!; say "killed hard: $?"

sh -c 'kill -STOP $$; echo resumed; exit 3' & job=$!
until_stopped
bg %1 >bg.txt; wait $job; say "stopped, then in the background: $?"

sh -c 'kill -TSTP $$; echo resumed; exit 4' & job=$!
until_stopped
fg %1 >fg.txt; say "stopped, then in the foreground: $?"

# dash waits for ever here, without fdwatch, too.
if [ "${BASH_VERSION-}" ]; then
    sleep 0.1 | sh -c 'kill -STOP 0; exit 5' &
    until_stopped
    kill -CONT %1; wait %1; say "a pipeline: $?"
fi

sleep 100 & one=$!; sleep 100 & two=$!; say "jobs: $(jobs -p | wc -l)"
kill %1 %2; wait $one; first=$?; wait $two; say "both: $first $?"

# Each job has a process group of its own, the shell's is another.
sleep 100 & job=$!
group=$(sed 's/.*) //' /proc/$job/stat | cut -d' ' -f3)
[ "$group" = "$job" ] && say "a group of its own"
[ "$(sed 's/.*) //' /proc/$$/stat | cut -d' ' -f3)" != "$group" ] && say "not the shell's"
kill -- -$job; wait $job; say "the group killed: $?"

trap 'say "got USR1"' USR1
sh -c 'kill -USR1 $1' sh $$; say "after the signal"
# What is said of these jobs' ends depends on when.
exec 2>/dev/null
# The signal that comes before `wait` does not end it: so it comes again and again.
trap : USR1
sleep 100 & job=$!
sh -c 'while kill -USR1 $1; do sleep 0.02; done' sh $$ & sender=$!
wait $job; say "wait, ended by a trap: $?"
kill -9 $sender $job
trap '' USR1
while kill -0 $sender || kill -0 $job; do wait; done
wait
trap 'say "the end: $?"' EXIT
exit 9
