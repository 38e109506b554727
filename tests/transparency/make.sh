# make -j with its jobserver, handed to a make within, and a load of short recipes.
mkdir sub
cat >Makefile <<'M'
N := $(shell seq 1 60)
all: $(N:%=o%) inner failing
o%: ; @sh -c 'seq 1 $* | md5sum >$@'
inner: ; +@$(MAKE) --no-print-directory -C sub
failing: ; -@exit 3
M
cat >sub/Makefile <<'M'
all: $(shell seq 1 20 | sed 's/^/p/')
p%: ; @echo "$*" >$@; case "$(MAKEFLAGS)" in *jobserver*) ;; *) echo no jobserver ;; esac
M
make -s -j4; echo "make: $?"
cat o* sub/p* | md5sum
make -s -j2 -k missing; echo "make: $?"
