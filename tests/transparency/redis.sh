redis-server --port 0 --unixsocket "$PWD/s" --daemonize yes --dir "$PWD" --pidfile "$PWD/pid" --logfile "$PWD/log" >/dev/null
c() { redis-cli -s "$PWD/s" "$@"; }
until c ping 2>/dev/null | grep -q PONG; do :; done
c set a 1; c incr a; for i in 1 2 3 4; do seq 1 500 | sed 's/.*/lpush l &/' | c >/dev/null & done; wait; c llen l
c save; c bgsave; until c info persistence | grep -q 'bgsave_in_progress:0'; do :; done
c info persistence | tr -d '\r' | grep 'last_bgsave_status'
c shutdown nosave; while kill -0 "$(cat pid 2>/dev/null || echo 0)" 2>/dev/null && [ -s pid ]; do :; done; echo "gone"
