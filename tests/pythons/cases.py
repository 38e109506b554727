"""Calls `here()` in every way in which Python code can come to run.

`here` writes its stack down as the interpreter itself sees it (a line of JSON in the file TRUTH names), then makes a
system call that nobody else makes: isatty() of a number beyond a million that names the place. tests/python_cases.rs
stops there and compares. Runs with Python 3.8 and later. What a version does not have is left out.
"""
import functools, json, os, sys, threading, time

TRUTH = os.environ["TRUTH"]
NUMBER = 1000000


def name_of(code):
    name = getattr(code, "co_qualname", code.co_name)
    return name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def stack(frame):
    out = []
    while frame is not None:
        file = frame.f_code.co_filename
        file = "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in file)
        out.append([name_of(frame.f_code), file, frame.f_lineno])
        frame = frame.f_back
    return out


def write(key, frame):
    line = json.dumps([key, stack(frame)]) + "\n"
    fd = os.open(TRUTH, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


def here(key, write=write, isatty=os.isatty, me=sys._getframe, NUMBER=NUMBER):
    write(key, me()); isatty(NUMBER + key)


def plain():
    here(1)


def in_thread():
    # The main thread waits in native code, another has Python frames of its own.
    other = threading.Event()
    idle = threading.Thread(target=other.wait)
    idle.start()
    t = threading.Thread(target=lambda: here(2))
    t.start()
    t.join()
    other.set()
    idle.join()


def generators():
    def inner():
        here(3)
        yield 1

    def outer():
        yield from inner()

    list(outer())

    def closed():
        try:
            yield
        finally:
            here(4)

    g = closed()
    next(g)
    g.close()
    g = closed.__class__(closed.__code__, {**globals(), "here": lambda _: here(5)})()
    next(g)
    del g


def coroutines():
    import asyncio

    async def leaf():
        await asyncio.sleep(0)
        here(6)

    async def middle():
        await leaf()

    async def numbers():
        try:
            yield 1
            here(7)
            yield 2
        finally:
            here(8)

    async def main():
        await middle()
        await asyncio.gather(middle_of(9), middle_of(10))
        async for n in numbers():
            if n == 2:
                break
        async with Context():
            pass

    async def middle_of(key):
        await asyncio.sleep(0)
        here(key)

    class Context:
        async def __aenter__(self):
            here(11)

        async def __aexit__(self, *what):
            await asyncio.sleep(0)
            here(12)

    asyncio.run(main())


def native_code_between():
    sorted([2, 1], key=lambda x: here(13) or x)
    functools.reduce(lambda a, b: here(14), [1, 2])
    list(map(functools.partial(here), [15]))

    def down(n):
        return max([n], key=lambda n: here(16) or n) if n == 0 else max([n], key=lambda n: down(n - 1))

    down(30)


def finalizers():
    class D:
        def __del__(self):
            here(17)

    D()
    ring = [D()]
    ring[0].ring = ring
    del ring
    import gc

    gc.collect()
    import weakref

    class E:
        pass

    e = E()
    r = weakref.ref(e, lambda _: here(18))
    del e


def deep(n=1000):
    if n == 0:
        here(19)
    else:
        deep(n - 1)


def code_from_text():
    exec("def f():\n  here(20)\nf()\n", {"here": here})
    eval("here(21)")
    exec(compile("def größe():\n\n  here(22)\nclass Ω:\n  größe()\n", "/tmp/a\n\\b ü\udc80\U0001f40d.py", "exec"), {"here": here})
    (lambda: (lambda k: here(k))(23))()
    [here(24) for _ in range(1)]
    {k: here(25) for k in range(1)}
    list(here(26) for _ in range(1))
    [[here(27) for _ in range(1)] for _ in range(1)]


def exceptions():
    try:
        raise ValueError
    except ValueError:
        here(28)
    try:
        try:
            1 / 0
        finally:
            here(29)
    except ZeroDivisionError:
        pass

    class C:
        def __enter__(self):
            return self

        def __exit__(self, *what):
            here(30)
            return True

    with C():
        raise KeyError

    def unwound():
        g = Late()
        raise KeyError

    class Late:
        def __del__(self):
            here(31)

    try:
        unwound()
    except KeyError:
        pass


def slots():
    class S:
        def __add__(self, other):
            here(32)

        def __getattr__(self, name):
            here(33)

        @property
        def p(self):
            here(34)

        def __getitem__(self, i):
            here(35)

        def __init__(self, key=None):
            if key:
                here(key)

        def __iter__(self):
            return self

        def __next__(self):
            here(36)
            raise StopIteration

    for _ in range(20):  # also when it has been specialised
        s = S()
        s + s
        s.nothing
        s.p
        s[0]
        S(37)
        for _ in s:
            pass


def signals():
    import signal

    def handler(number, frame):
        here(38)

    signal.signal(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)


def traced():
    def follow(frame, event, arg):
        if event == "return" and frame.f_code.co_name == "victim":
            here(39)
        return follow

    def victim():
        return 1

    sys.settrace(follow)
    victim()
    sys.settrace(None)


def imports():
    import builtins

    builtins.here = here
    import from_source, from_pyc, from_zip  # 40, 41, 42


def interpreters():
    try:
        import _interpreters as module  # 3.13
    except ImportError:
        try:
            import _xxsubinterpreters as module
        except ImportError:
            return
    this = __file__
    text = f"__name__ = 'inside'\n__file__ = {this!r}\nexec(compile(open({this!r}).read(), {this!r}, 'exec'))\n"
    text += "def inside():\n  here(43)\ninside()\n"
    which = module.create()
    module.run_string(which, text)
    threading.Thread(target=module.run_string, args=(which, "def again():\n  here(44)\nagain()\n")).start()
    for t in threading.enumerate():
        if t is not threading.current_thread():
            t.join()
    module.destroy(which)


def forks():
    pid = os.fork()
    if pid == 0:
        here(45)
        t = threading.Thread(target=here, args=(46,))
        t.start()
        t.join()
        os._exit(0)
    os.waitpid(pid, 0)

    # Forked by a thread that is not the first: in the child it is.
    def fork():
        pid = os.fork()
        if pid == 0:
            here(47)
            os._exit(0)
        os.waitpid(pid, 0)

    t = threading.Thread(target=fork)
    t.start()
    t.join()


def subprocesses():
    import subprocess

    subprocess.run(["true"])
    subprocess.run(["true"], preexec_fn=lambda: here(48))
    subprocess.run(["true"], close_fds=False, stdin=subprocess.DEVNULL)
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def task(key):
    here(key)


def processes():
    import multiprocessing

    for key, how in enumerate(["fork", "spawn", "forkserver"], 49):
        context = multiprocessing.get_context(how)
        p = context.Process(target=task, args=(key,))
        p.start()
        p.join()


class AtTheEnd:
    def __del__(self, here=here):
        here(53)


def main():
    import atexit

    atexit.register(here, 52)
    only = os.environ.get("ONLY")
    cases = [plain, in_thread, generators, coroutines, native_code_between, finalizers, deep, code_from_text]
    cases += [exceptions, slots, signals, traced, imports, interpreters, forks, subprocesses, processes]
    for case in cases:
        if not only or case.__name__ in only.split():
            case()


if __name__ == "__main__":
    sys.setrecursionlimit(5000)
    end = AtTheEnd()
    main()
