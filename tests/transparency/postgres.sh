# A cluster: made, started, asked, stopped.
set -e
initdb -D data -A trust -U me --no-sync --no-instructions -E UTF8 --locale=C | grep -v '^$' | grep -v '^Data\|default max_conn\|shared_buffers\|time zone'
mkdir run
cat >>data/postgresql.conf <<C
unix_socket_directories = '$PWD/run'
listen_addresses = ''
fsync = off
logging_collector = off
C
pg_ctl -D data -l log.txt -w -t 120 start >/dev/null
q() { psql -X -h "$PWD/run" -U me -d postgres -At -c "$1"; }
q 'create table t as select g, md5(g::text) from generate_series(1, 20000) g'
q 'select count(*), max(md5) from t'
q 'create index on t (md5)'
q "set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; select count(distinct md5) from t" | tail -1
q "copy (select g from t order by g limit 3) to program 'cat >&2; cat /dev/null'" 2>/dev/null || true
q 'select no_such_column' 2>&1 || echo "psql: $?"
for i in 1 2 3 4; do q "select sum(g) from t where g % $i = 0" >out$i & done; wait; cat out1 out2 out3 out4
psql -X -h "$PWD/run" -U me -d postgres -At <<Q
\\! echo from a shell
\\copy (select g from t order by g limit 2) to stdout
vacuum t;
Q
pg_ctl -D data -w -m fast stop
pg_ctl -D data status || echo "status: $?"
