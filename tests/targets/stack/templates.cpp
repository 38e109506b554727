// close(-77) below C++: templates, a lambda in a std::function, a virtual call, a destructor that an exception runs.
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>
#define NOINLINE __attribute__((noinline))
#define KEEP __asm__ volatile("" ::: "memory")
namespace shop {
NOINLINE void target_close() { close(-77); KEEP; }
template <typename T> struct Shelf {
  std::vector<T> items;
  template <typename F> NOINLINE void each(F &&f) { for (auto &i : items) f(i); KEEP; }
};
struct Guard { int n; NOINLINE ~Guard() { target_close(); KEEP; } };
struct Base { virtual ~Base() = default; virtual int visit(std::map<std::string, int> &m) = 0; };
template <int N> struct Visitor final : Base {
  NOINLINE int visit(std::map<std::string, int> &m) override {
    Shelf<std::pair<int, std::string>> shelf; shelf.items.emplace_back(N, "x");
    std::function<void(int)> call = [&](int k) { m["k"] = k; target_close(); KEEP; };
    shelf.each([&](auto &item) { call(item.first); KEEP; });
    return N;
  }
};
NOINLINE int thrower(int n) { Guard g{n}; if (n > 0) throw std::runtime_error("expected"); KEEP; return n; }
NOINLINE int catcher(int n) { try { return thrower(n); } catch (const std::exception &) { KEEP; return -1; } }
}  // namespace shop
int main(int argc, char **) {
  std::map<std::string, int> m; std::unique_ptr<shop::Base> v = std::make_unique<shop::Visitor<42>>();
  int r = v->visit(m); r += shop::catcher(argc); KEEP;
  return r == 0;
}
