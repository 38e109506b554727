# What a POSIX shell does with descriptors: here-documents, redirections, pipelines, traps, subshells, exec.
say() { printf '%s\n' "$*"; }
cat <<A; cat <<'B'
a here-document with $((6 * 7))
A
and one with $((6 * 7))
B
# Longer than a pipe holds (65,536 bytes).
big=$(seq 1 30000)
cat <<A | md5sum
$big
A
seq 1 100000 | grep 7 | sort -rn | head -3
seq 1 100000 | head -1; say "status: $?"
exec 3>three.txt 4<&0 5>&1
say three >&3; say five >&5
(exec 3>&-; { say lost >&3; } 2>/dev/null || say "3 is closed here")
say more >&3
exec 3>&- 4<&- 5>&-
cat three.txt
{ say out; say err >&2; } 2>&1 >/dev/null | sed 's/^/only /'
while read -r a b; do say "$b $a"; done <<A
1 2
3 4
A
mkfifo queue
cat queue & for i in 1 2 3; do say "line $i"; done >queue; wait $!
trap 'say terminated' TERM; kill -TERM $$; trap - TERM
(trap 'say "subshell ends"' EXIT; exit 3); say "status: $?"
sh -c 'kill -9 $$'; say "killed: $?"
sh -c 'kill -SEGV $$' 2>/dev/null; say "segv: $?"
yes | head -100000 | wc -l
timeout -s INT 0.1 sleep 10; say "timeout: $?"
nohup sh -c 'trap "echo heard" HUP; kill -HUP $$; echo not killed' 2>/dev/null </dev/null
seq 1 40 | xargs -P 4 -n 5 sh -c 'exit 0' && say "xargs: $?"
seq 1 4 | xargs -n 1 sh -c 'exit $1' sh; say "xargs: $?"
mkdir tree; for i in 1 2 3 4 5; do seq 1 $i$i$i >tree/$i; done
tar cz tree | tar tz
find tree -type f -exec cksum {} + | sort
setsid -w sh -c 'exit 6'; say "setsid: $?"
ls -l /proc/self/fd | sed 's/.* \([0-9]* -> \)/\1/; s/pipe:.*/pipe/; s,/proc/[0-9]*,/proc/N,' | grep -v '^total'
exec sh -c 'exit 5'
