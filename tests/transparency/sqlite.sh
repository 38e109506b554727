for i in 1 2 3 4; do sqlite3 -cmd '.timeout 60000' db "create table if not exists t(i); with recursive c(x) as (select 1 union all select x+1 from c where x<1000) insert into t select x*$i from c;" & done; wait
sqlite3 db 'select count(*), sum(i) from t; pragma integrity_check'
sqlite3 db .dump | sqlite3 copy; echo "copied: $?"; sqlite3 copy 'select count(*) from t'
sqlite3 db '.shell echo from a shell' 'attach ":memory:" as m' 'create table m.x as select * from t' 'select count(*) from m.x'
