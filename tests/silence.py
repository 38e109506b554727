#!/usr/bin/env python3
"""Ordinary programs under `fdwatch audit`: what is reported of them, which should be nothing.

    tests/silence.py [--quick] [--fdwatch FILE] [--markdown] [--keep DIR] [NAME...]

Each row is a program with what it needs and a script; it runs in a folder of its own, with a time limit. A row is clean
if no finding is an error and at most a handful are warnings, and if the script ended as it should. Exits with 1 if a row
is not clean. --quick takes the rows that are done in a second or two. Rows whose programs are missing are named.
"""

import argparse, collections, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
T = HERE / "transparency"
MOST_WARNINGS = 5

SHELL = """
echo a b c | tr ' ' '\\n' | sort | (read -r x; echo "$x"; cat) | wc -l
(cd /; ls | head -2; (exit 3)) > out; x=$(echo sub; exec 5>&1; echo five >&5)
cat <<EOF
here $x
EOF
exec 3>three; echo to three >&3; exec 3>&-; exec 4<three; read -r y <&4; exec 4<&-; echo "$y"
for i in 1 2 3; do echo $i; done | while read -r n; do echo "got $n" >&2; done 2>err
{ echo out; echo err >&2; } 3>&1 1>&2 2>&3 | cat
sleep 0.01 & wait
true
"""

# Without process substitution, which dash does not have.
MORE = SHELL + """
diff <(seq 1 5) <(seq 1 5)
seq 1 5 | tee >(cat >t1) | tail -1
"""

ASYNCIO = """
import asyncio, sys
async def main():
    p = await asyncio.create_subprocess_exec('cat', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    print(await p.communicate(b'hello'))
    async def serve(r, w):
        w.write(await r.readline()); await w.drain(); w.close()
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    async def client(n):
        r, w = await asyncio.open_connection('127.0.0.1', port)
        w.write(b'%d\\n' % n); print(await r.readline()); w.close()
    await asyncio.gather(*(client(n) for n in range(8)))
    print(await asyncio.gather(*(asyncio.to_thread(open, __file__) for _ in range(4))))
    server.close(); await server.wait_closed()
asyncio.run(main())
"""

MULTI = """
import multiprocessing as mp
def f(x): return x * x
def g(q, c): q.put(c.recv())
if __name__ == '__main__':
    for how in ('fork', 'spawn', 'forkserver'):
        ctx = mp.get_context(how)
        with ctx.Pool(3) as pool: print(how, pool.map(f, range(20)))
        q, (a, b) = ctx.Queue(), ctx.Pipe()
        p = ctx.Process(target=g, args=(q, a)); p.start(); b.send('x'); print(q.get()); p.join()
        with ctx.Manager() as m: print(m.list([1, 2]))
"""

FUTURES = """
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
import subprocess
def f(x): return len(open(__file__).read()) + x
def g(x): return subprocess.run(['echo', str(x)], capture_output=True).stdout
if __name__ == '__main__':
    with ThreadPoolExecutor(4) as e: print(list(e.map(f, range(50))), list(e.map(g, range(20))))
    with ProcessPoolExecutor(2) as e: print(list(e.map(f, range(20))))
"""

PYTEST = """
import subprocess, sys, tempfile
def test_capture(capfd): subprocess.run(['echo', 'x'], check=True); assert capfd.readouterr().out == 'x\\n'
def test_tmp(tmp_path): (tmp_path / 'a').write_text('x'); assert (tmp_path / 'a').read_text() == 'x'
def test_fail(): assert 1 == 2
"""

NODE = """
const { spawn, execSync, fork } = require('child_process'); const fs = require('fs');
if (process.send) { process.send('up'); process.disconnect(); } else {
  console.log(execSync('echo sync; echo err >&2', { stdio: ['ignore', 'pipe', 'pipe'] }).toString());
  const fd = fs.openSync('out', 'w'); const c = spawn('sh', ['-c', 'echo to file; cat'], { stdio: ['pipe', fd, 'inherit'] });
  c.stdin.end('typed\\n'); c.on('exit', () => { fs.closeSync(fd); console.log(fs.readFileSync('out', 'utf8')); });
  fork(__filename).on('message', m => console.log(m));
  Promise.all([1, 2, 3].map(n => new Promise(r => spawn('true').on('exit', r)))).then(x => console.log(x));
  fs.promises.open(__filename).then(async h => { await h.read(Buffer.alloc(9)); await h.close(); });
}
"""

NGINX = """
# Its workers would be somebody else, who may not look into a folder of ours.
[ $(id -u) = 0 ] && echo "user root;" >n.conf
cat >>n.conf <<C
worker_processes 2; pid $PWD/pid; error_log $PWD/err.log; daemon on;
events { worker_connections 64; }
http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
server { listen unix:$PWD/sock; location / { root $PWD; } } }
C
echo hello >index.html
nginx -p $PWD -c $PWD/n.conf
get() { perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => "sock") or exit 1; print $s "GET / HTTP/1.0\\r\\n\\r\\n"; print <$s>' | tail -1; }
n=0; until get | grep -q hello; do n=$((n + 1)); [ $n -lt 500 ] || exit 9; done
nginx -p $PWD -c $PWD/n.conf -s reload
for i in 1 2 3 4 5; do get; done
nginx -p $PWD -c $PWD/n.conf -s quit; while [ -e pid ]; do :; done
"""

POSTGRES = """
initdb -D data -A trust -U me --no-sync >/dev/null
mkdir run; printf "unix_socket_directories = '%s/run'\\nlisten_addresses = ''\\nfsync = off\\n" "$PWD" >>data/postgresql.conf
pg_ctl -D data -l log.txt -w -t 120 start >/dev/null
q() { psql -X -h "$PWD/run" -U me -d postgres -At -c "$1"; }
q 'create table t as select g from generate_series(1, 1000) g'; q 'select count(*) from t'
q "copy (select 1) to program 'cat >/dev/null'"; q 'vacuum t'
pg_ctl -D data -w -m fast stop >/dev/null
"""


def script(name):
    return (T / name).read_text()


Row = collections.namedtuple("Row", "name needs files command quick postgres limit", defaults=({}, None, False, False, 120))


def shell(program, text):
    return [program, "-c", text]


ROWS = [
    Row("bash", ["bash"], {}, shell("bash", MORE), True),
    Row("bash, what is its own", ["bash"], {}, shell("bash", script("bash.sh"))),
    Row("dash", ["dash"], {}, shell("dash", SHELL), True),
    Row("zsh", ["zsh"], {}, shell("zsh", MORE), True),
    Row("make -j with a make within", ["make"], {}, shell("sh", script("make.sh")), True),
    Row("gcc", ["gcc"], {"a.c": "#include <stdio.h>\nint main(void) { puts(\"x\"); return 0; }\n"},
        shell("sh", "gcc -pipe -O2 -flto -o a a.c && ./a"), True),
    Row("git: commit, rebase, merge, clone, push, gc", ["git"], {}, shell("sh", script("git.sh"))),
    Row("git clone, commit, rebase", ["git"], {}, shell("sh", "git init -q a && cd a && for i in 1 2; do echo $i >f$i; "
        "git add .; git commit -qm $i; done; git checkout -qb s HEAD~1; echo x >x; git add x; git commit -qm x; "
        "git rebase -q -; cd ..; git clone -q a b"), True),
    Row("cargo: build, run, test", ["cargo"], {}, shell("sh", script("cargo.sh")), False, False, 300),
    Row("go: build, run", ["go"], {"a.go": script("program.go")},
        shell("sh", "GO111MODULE=off GOCACHE=$PWD/cache HOME=$PWD go build -o a a.go && { ./a >/dev/null; [ $? = 4 ]; }"), False, False, 600),
    Row("python: pip install", ["python3"], {}, shell("sh", "python3 -m venv v && v/bin/pip install --no-index "
        "--force-reinstall $(python3 -c 'import ensurepip, glob, os; print(glob.glob(os.path.dirname(ensurepip.__file__)"
        " + \"/_bundled/pip*.whl\")[0])')"), False, False, 300),
    Row("python: pytest", ["python3", "pytest"], {"test_a.py": PYTEST}, shell("sh", "pytest -q test_a.py; [ $? = 1 ]")),
    Row("python: asyncio", ["python3"], {"a.py": ASYNCIO}, ["python3", "a.py"], True),
    Row("python: multiprocessing, each start method", ["python3"], {"a.py": MULTI}, ["python3", "a.py"]),
    Row("python: concurrent.futures", ["python3"], {"a.py": FUTURES}, ["python3", "a.py"]),
    Row("node: spawn, fork, files", ["node"], {"a.js": NODE}, ["node", "a.js"], True),
    Row("npm run", ["npm"], {"package.json": '{"name":"a","version":"1.0.0","scripts":{"t":"node -e 1 && echo ok | cat"}}'},
        shell("sh", "HOME=$PWD npm run --offline t")),
    Row("perl", ["perl"], {"a.pl": script("perl.pl")}, shell("sh", "perl a.pl; [ $? = 6 ]"), True),
    Row("tmux new -d, and its end", ["tmux"], {}, shell("sh", script("tmux.sh").replace("transparency", "silence"))),
    Row("PostgreSQL: initdb, start, queries, stop", ["initdb", "psql"], {}, shell("sh", POSTGRES), False, True, 300),
    Row("Redis: daemon, queries, save", ["redis-server", "redis-cli"], {}, shell("sh", script("redis.sh"))),
    Row("nginx: start, reload, quit", ["nginx", "perl"], {}, shell("sh", NGINX)),
    Row("ssh-keygen", ["ssh-keygen"], {}, shell("sh", "ssh-keygen -q -t ed25519 -N '' -f k && ssh-keygen -l -f k.pub"), True),
]

PATH = os.environ["PATH"] + ":/usr/sbin:" + ":".join(map(str, sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))))
ENV = dict(os.environ, PATH=PATH, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", LC_ALL="C.UTF-8",
           GIT_COMMITTER_EMAIL="a@b", GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", GIT_CONFIG_NOSYSTEM="1")


def watch(row, fdwatch, folder):
    """Runs a row; (what is wrong, the report, seconds)."""
    for name, text in row.files.items():
        (folder / name).write_text(text)
    report = folder / ".report.json"
    command = [fdwatch, "audit", "--fail-on", "never", "--format", "json", "-o", str(report), "--", *row.command]
    if row.postgres and os.geteuid() == 0:
        # It refuses to run as root.
        os.chmod(folder, 0o777)
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    began = time.monotonic()
    with open(folder / ".output", "wb") as output:
        child = subprocess.Popen(command, cwd=folder, env=dict(ENV, HOME=ENV.get("HOME", str(folder))), start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            status = child.wait(row.limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return f"longer than {row.limit} s", None, time.monotonic() - began
    took = time.monotonic() - began
    try:
        found = json.loads(report.read_text())
    except (OSError, ValueError):
        return f"no report (status {status})", None, took
    return (f"status {status}" if status else None), found, took


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true")
    options.add_argument("--markdown", action="store_true")
    options.add_argument("--keep", metavar="DIR", help="keep the reports of rows that are not clean in DIR")
    options.add_argument("--fdwatch", default=str(HERE.parent / "target/debug/fdwatch"))
    options.add_argument("names", nargs="*")
    args = options.parse_args()
    fdwatch = str(pathlib.Path(args.fdwatch).resolve())
    unclean = 0
    if args.markdown:
        print("| program | processes | errors | warnings | what |\n|---|---|---|---|---|")
    for row in ROWS:
        if args.quick and not row.quick or args.names and not any(n in row.name for n in args.names):
            continue
        missing = [p for p in row.needs if not shutil.which(p, path=PATH)]
        if row.postgres and os.geteuid() == 0 and not shutil.which("setpriv"):
            missing.append("setpriv")
        if missing:
            print(f"skipped: {row.name}: no {', '.join(missing)}", file=sys.stderr, flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="silence-", ignore_cleanup_errors=True) as folder:
            folder = pathlib.Path(folder)
            wrong, report, took = watch(row, fdwatch, folder)
            counts = report["counts"] if report else {"errors": 0, "warnings": 0, "suppressed": 0}
            what = collections.Counter(f["name"] for f in (report["findings"] if report else []))
            bad = bool(wrong or counts["errors"] or counts["warnings"] > MOST_WARNINGS)
            unclean += bad
            said = ", ".join(f"{n} {name}" for name, n in sorted(what.items()))
            if counts["suppressed"]:
                said = "; ".join(filter(None, [said, f"{counts['suppressed']} suppressed"]))
            said = "; ".join(filter(None, [wrong, said])) or "nothing"
            processes = report["coverage"]["processes"] if report else 0
            if args.markdown:
                print(f"| {row.name} | {processes} | {counts['errors']} | {counts['warnings']} | {said} |", flush=True)
            else:
                mark = "BAD " if bad else "ok  "
                print(f"{mark} {row.name:<46} {processes:>5} processes {took:6.1f} s  {said}", flush=True)
            if bad:
                print((folder / ".output").read_text(errors="replace")[-1500:], file=sys.stderr)
                for f in report["findings"] if report else []:
                    print("   ", f["severity"], f["name"], f["title"], file=sys.stderr)
            if (bad or counts["warnings"]) and args.keep and report:
                name = "".join(c if c.isalnum() else "-" for c in row.name) + ".json"
                shutil.copy(folder / ".report.json", pathlib.Path(args.keep) / name)
    return 1 if unclean else 0


if __name__ == "__main__":
    sys.exit(main())
