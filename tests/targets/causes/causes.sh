# A redirection of a builtin is made and undone; then a file that a break waits for.
echo hi >"$1/out"
: <"$1/end"
