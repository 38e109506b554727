#!/bin/sh
# gen_c.sh DIR [N]: writes a C project of N files (40 unless told) and its Makefile into DIR.
set -eu
dir=$1
count=${2:-40}
mkdir -p "$dir"
objects=main.o
i=0
while [ "$i" -lt "$count" ]; do
    {
        printf '#include <%s>\n' stdio.h stdlib.h string.h unistd.h sys/socket.h
        j=0
        while [ "$j" -lt 12 ]; do
            cat <<END
int f${i}_$j(int a, const char *b)
{
    char text[64];
    snprintf(text, sizeof text, "%d%s", a + $j, b);
    return (int)strlen(text) * $((j + 1));
}
END
            j=$((j + 1))
        done
    } >"$dir/u$i.c"
    objects="$objects u$i.o"
    i=$((i + 1))
done
cat >"$dir/main.c" <<'END'
int f0_0(int, const char *);

int main(void)
{
    return f0_0(1, "x") == 0;
}
END
cat >"$dir/Makefile" <<END
CFLAGS = -O1 -g
prog: $objects
	\$(CC) -o \$@ \$^
END
