# What bash does beyond POSIX: process substitution, coproc, PIPESTATUS, named descriptors, wait -n.
say() { printf '%s\n' "$*"; }
diff <(seq 1 5) <(seq 2 6); say "diff: $?"
seq 1 5 | tee >(tail -1 >last.txt) >(wc -l >count.txt) >/dev/null
until [[ -s last.txt && -s count.txt ]]; do :; done
cat last.txt count.txt
coproc up { while read -r l; do say "${l^^}"; done; }
say hello >&"${up[1]}"; read -r answer <&"${up[0]}"; say "$answer"
exec {in}<&"${up[0]}" {out}>&"${up[1]}"; say again >&$out; read -r answer <&$in; say "$answer"
eval "exec ${up[1]}>&- $out>&-"; wait $up_PID; say "coproc: $?"
exec {in}<&-
false | true | (exit 3); say "${PIPESTATUS[*]}"
cat <<<"a here-string"
exec {fd}<>file.txt; say written >&$fd; cat file.txt; exec {fd}>&-
(exit 3) & wait -n; say "wait -n: $?"
mapfile -t lines < <(seq 1 3); say "${lines[*]}"
ulimit -n 64; for i in {1..100}; do { : ; } 3</dev/null; done; say "no descriptor lost"
shopt -s lastpipe; seq 1 3 | while read -r n; do last=$n; done; say "lastpipe: $last"
trap 'say "child ended"' CHLD; sleep 0.01 & wait $!; trap - CHLD
{ say to 1; say to 2 >&2; } 3>&1 1>&2 2>&3 3>&-
exec -a other bash -c 'echo "$0"'
