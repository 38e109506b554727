cat >h.c <<'C'
#include <stdio.h>
#include <math.h>
int main(int n, char **v) { printf("%d %.3f\n", n, sqrt(n + 1)); return 3; }
C
gcc -O2 -g -pipe -save-temps=obj -o h h.c -lm && ./h a b; echo "h: $?"
gcc -Wall -fsyntax-only -x c - <<'C' 2>&1 | head -3
int main(void) { return undefined; }
C
gcc -O2 -flto=2 -o lto h.c -lm && ./lto; echo "lto: $?"
nm h | grep -c main
