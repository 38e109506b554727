seq 1 100 >text
vim -N -u NONE -i NONE -es -c '%s/1/one/g' -c 'w! changed' -c '%!sort -r' -c 'r !echo from a shell' -c 'wq! sorted' text; echo "vim: $?"
md5sum changed sorted
