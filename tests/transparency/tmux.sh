# A server that daemonizes, windows with programs on pseudo-terminals, and its end.
T="tmux -L transparency -f /dev/null"
$T new-session -d -s one -x 80 -y 24 'sh -c "tty >/dev/null && echo on a terminal >tty.txt; $TMUX_SIGNAL exec cat"'
until [ -s tty.txt ]; do :; done; cat tty.txt
$T new-window -t one 'sh -c "echo second >second.txt; exec cat"'
until [ -s second.txt ]; do :; done
$T list-windows -t one -F '#I #P' 
$T send-keys -t one:0 typed Enter
until $T capture-pane -p -t one:0 | grep -q typed; do :; done; $T capture-pane -p -t one:0 | head -1
$T run-shell 'echo run >run.txt'; cat run.txt
$T kill-server; echo "tmux: $?"
$T list-sessions 2>/dev/null; echo "afterwards: $?"
