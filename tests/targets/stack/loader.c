/* Loads each library that it is given, closes -77 below its run(), and unloads it: the next takes its place. */
#include <dlfcn.h>
#include <unistd.h>
#define KEEP __asm__ volatile("" ::: "memory")
static void target_close(void) { close(-77); KEEP; }
int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    void *library = dlopen(argv[i], RTLD_NOW);
    if (!library) return 2;
    void (*run)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(library, "run");
    run(target_close);
    dlclose(library);
  }
  return 0;
}
