//! Compares fdwatch's model with the kernel while random calls are made: what is open in each table and whether exec
//! closes it (`/proc/PID/fd`, `fdinfo`), which descriptors are one open file description and which tasks share a table
//! (kcmp(2)).
//!
//! `cargo run --release --example oracle -- --calls 1000000 [--seed N] [--processes N] [--threads N] [--i386]
//! [--calls-of open,dup,…] [--all-calls] [--every N]` runs `tests/targets/random_calls`, or `-- COMMAND …` instead. It ends
//! with status 1 if there was a mismatch, and says then with how few calls it comes.

use fdwatch::base::text::escape;
use fdwatch::base::{Fd, FileId, LifeId, TableId, Tid};
use fdwatch::event::{Effect, EventKind, ExitStatus, FileKind, NewFile};
use fdwatch::finding::Seen;
use fdwatch::kernel::{Caught, Command, Launched, procfs};
use fdwatch::model::{Flights, World};
use fdwatch::policy::Policy;
use fdwatch::render::{Names, call};
use fdwatch::session::{Decision, Frontend, Session, View};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How many other tables, and how many other tasks, one is compared with at a stop.
const PEERS: usize = 4;
/// How many of a task's last calls are shown.
const LAST: usize = 12;
/// How many mismatches are shown.
const SHOWN: usize = 8;
/// How often a mismatch is sought again with fewer calls.
const RERUNS: usize = 6;

struct Options {
    calls: u32,
    seed: u64,
    processes: u32,
    threads: u32,
    i386: bool,
    groups: String,
    all_calls: bool,
    every: Option<u64>,
    /// Only this run: no other to find fewer calls.
    once: bool,
    /// Every event is printed.
    log: bool,
    command: Vec<OsString>,
}

impl Options {
    fn read(args: impl Iterator<Item = OsString>) -> anyhow::Result<Options> {
        let mut o = Options {
            calls: 20_000,
            seed: 1,
            processes: 4,
            threads: 3,
            i386: false,
            groups: "all".to_string(),
            all_calls: false,
            every: None,
            once: false,
            log: false,
            command: Vec::new(),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || {
                let value = args.next().and_then(|v| v.into_string().ok());
                value.ok_or_else(|| anyhow::anyhow!("{} needs a value", arg.to_string_lossy()))
            };
            match arg.to_str() {
                Some("--calls") => o.calls = value()?.parse()?,
                Some("--seed") => o.seed = value()?.parse()?,
                Some("--processes") => o.processes = value()?.parse()?,
                Some("--threads") => o.threads = value()?.parse()?,
                Some("--calls-of") => o.groups = value()?,
                Some("--every") => o.every = Some(value()?.parse()?),
                Some("--i386") => o.i386 = true,
                Some("--all-calls") => o.all_calls = true,
                Some("--once") => o.once = true,
                Some("--log") => o.log = true,
                Some("--") => o.command = args.by_ref().collect(),
                _ => anyhow::bail!("{}: no such option", arg.to_string_lossy()),
            }
        }
        Ok(o)
    }

    /// How often a stop is looked at: in a long run not always, or it would be a very long one.
    fn every(&self) -> u64 {
        self.every.unwrap_or_else(|| u64::from(self.calls / 50_000).max(1))
    }

    /// The same run again, with every stop looked at and another number of calls.
    fn again(&self, calls: u32) -> Vec<String> {
        let mut args = vec!["--once".to_string()];
        let mut put = |name: &str, value: String| args.extend([name.to_string(), value]);
        put("--every", "1".to_string());
        put("--calls", calls.to_string());
        put("--seed", self.seed.to_string());
        put("--processes", self.processes.to_string());
        put("--threads", self.threads.to_string());
        put("--calls-of", self.groups.clone());
        args.extend(self.i386.then(|| "--i386".to_string()));
        args.extend(self.all_calls.then(|| "--all-calls".to_string()));
        args
    }
}

/// The file through which `random_calls` says how far it is, and is told to stop.
struct Control(Option<File>);

impl Control {
    fn word(&self, at: u64) -> u32 {
        let mut word = [0; 4];
        match self.0.as_ref().map(|f| f.read_exact_at(&mut word, at)) {
            Some(Ok(())) => u32::from_le_bytes(word),
            _ => 0,
        }
    }

    fn calls(&self) -> u32 {
        self.word(0)
    }

    fn processes(&self) -> u32 {
        self.word(4)
    }

    fn stop(&self) {
        if let Some(file) = &self.0 {
            let _ = file.write_all_at(&1u32.to_le_bytes(), 8);
        }
    }
}

#[derive(Default)]
struct Counts {
    stops: u64,
    compared: u64,
    descriptors: u64,
    doubted: u64,
    pairs: u64,
    tables: u64,
    settled: u64,
    /// Compared tasks that went in the middle of that.
    cut: u64,
}

/// Something that does not agree although one side was not standing still: it is a mismatch if that side turns out to have
/// been as it is known, when it stops next.
struct Suspect {
    /// The task that stood still.
    still: Tid,
    /// The other task, and its table.
    task: Tid,
    table: TableId,
    /// What was compared, if it was two descriptors: the one that stood still, the other one, and whether the model takes
    /// them for one file.
    lives: Option<(LifeId, LifeId, bool)>,
    text: String,
}

struct Oracle {
    every: u64,
    control: Control,
    counts: Counts,
    /// The numbers that a task is about to close or to mark, and has by the model.
    ahead: HashMap<Tid, Vec<Fd>>,
    /// Tasks that go without having been at a stop of their own: what is known of another is then compared later.
    going: bool,
    due: HashSet<Tid>,
    suspects: Vec<Suspect>,
    /// pidfds that the model does not know: clone(2) makes them before it reports, and its beginning is not told. And who
    /// has the table and has not stopped since: one of them may be about to report.
    reported_later: HashMap<(TableId, Fd), HashSet<Tid>>,
    /// What did not agree of a task with other threads, until it is known that none of them executed a program meanwhile.
    held: HashMap<Tid, (Vec<(u32, String)>, u64)>,
    last: HashMap<Tid, VecDeque<String>>,
    mismatches: Vec<(u32, String)>,
    mismatch_count: u64,
    /// Whether every event is shown.
    log: bool,
}

impl Frontend for Oracle {
    fn wants_breaks(&self) -> bool {
        false
    }

    fn on_event(&mut self, seen: &Seen<'_>, _: &mut dyn Names) {
        let tid = seen.event.tid;
        if !matches!(seen.event.kind, EventKind::Reconciled { .. }) {
            self.going = false;
        }
        let text = match &seen.event.kind {
            EventKind::Call(made) => {
                // Committed at its entry: the kernel has yet to carry it out.
                let numbers = made.effects.iter().filter_map(|e| match e {
                    Effect::Close { fd } | Effect::Cloexec { fd, .. } if made.info.ret.is_none() => Some(*fd),
                    _ => None,
                });
                self.ahead.insert(tid, numbers.collect());
                let effects: Vec<String> = made.effects.iter().map(brief).collect();
                format!("{}   {}", call::call(&made.info, None), effects.join(", "))
            }
            EventKind::Fork(fork) => {
                self.ahead.remove(&tid);
                let files = if fork.shares_files { " with its table" } else { "" };
                format!("made {} of {}{files}", fork.child, fork.child_pid)
            }
            EventKind::Exec { former, .. } => {
                self.ahead.remove(&tid);
                self.ahead.remove(former);
                self.held.remove(&tid);
                self.held.remove(former);
                "executed a program".to_string()
            }
            EventKind::Start(_) => "was there".to_string(),
            EventKind::Exit { .. } => {
                self.going = true;
                if self.log {
                    eprintln!("    {tid}: is gone");
                }
                self.ahead.remove(&tid);
                for waiting in self.reported_later.values_mut() {
                    waiting.remove(&tid);
                }
                self.last.remove(&tid);
                self.due.remove(&tid);
                self.held.remove(&tid);
                self.suspects.retain(|s| s.task != tid);
                return;
            }
            EventKind::Reconciled { raced, corrections } => {
                if *raced {
                    self.counts.settled += corrections.len() as u64;
                } else {
                    self.mismatch(tid, format!("only the kernel knew: {corrections:?}"));
                    self.control.stop();
                }
                format!("the kernel was asked: {corrections:?}")
            }
        };
        if self.log {
            let table = seen.world.task(tid).map_or_else(String::new, |t| format!(" of {}", t.table));
            eprintln!("    {tid}{table}: {text}");
        }
        let last = self.last.entry(tid).or_default();
        last.push_back(text);
        if last.len() > LAST {
            last.pop_front();
        }
    }

    fn on_stop(&mut self, tid: Tid, world: &World, flights: &Flights) {
        if self.going {
            // Somebody else is gone; this one is perhaps not at a stop.
            self.due.insert(tid);
            return;
        }
        self.counts.stops += 1;
        for waiting in self.reported_later.values_mut() {
            waiting.remove(&tid);
        }
        self.reported_later.retain(|(table, fd), _| {
            let open = world.table(*table).is_some_and(|t| t.open().any(|(n, _)| n == *fd));
            !open && world.tasks().any(|(_, t)| t.table == *table)
        });
        if let Some((texts, count)) = self.held.remove(&tid) {
            self.mismatches.extend(texts);
            self.mismatch_count += count;
            self.control.stop();
        }
        self.confirm(tid, world);
        if self.counts.stops.is_multiple_of(self.every) || self.due.remove(&tid) {
            self.compare(tid, world, flights);
        }
    }

    fn on_break(&mut self, _: View<'_>) -> Decision {
        Decision::default()
    }
}

/// A descriptor as `/proc` shows it.
struct Shown {
    file: NewFile,
    cloexec: bool,
}

impl Oracle {
    fn new(every: u64, log: bool, control: Control) -> Oracle {
        Oracle {
            every,
            control,
            counts: Counts::default(),
            ahead: HashMap::new(),
            going: false,
            due: HashSet::new(),
            suspects: Vec::new(),
            reported_later: HashMap::new(),
            held: HashMap::new(),
            last: HashMap::new(),
            mismatches: Vec::new(),
            mismatch_count: 0,
            log,
        }
    }

    fn mismatch(&mut self, tid: Tid, text: String) {
        self.mismatch_count += 1;
        if self.mismatches.len() < SHOWN {
            let mut full = format!("[{tid}] {text}");
            for line in self.last.get(&tid).into_iter().flatten() {
                full.push_str(&format!("\n      {line}"));
            }
            self.mismatches.push((self.control.calls(), full));
        }
    }

    /// The table of `tid`, which stands still, against the kernel's.
    fn compare(&mut self, tid: Tid, world: &World, flights: &Flights) {
        let Some(id) = world.task(tid).map(|t| t.table) else { return };
        let Some(table) = world.table(id) else { return };
        let Ok(open) = procfs::open_numbers(tid) else { return };
        if open.is_empty() && !procfs::has_table(tid) {
            return;
        }
        let ahead = self.ahead.get(&tid).cloned().unwrap_or_default();
        let known: BTreeMap<Fd, LifeId> = table.open().collect();
        let kernel: BTreeSet<Fd> = open.into_iter().collect();
        self.reported_later.retain(|(table, fd), _| *table != id || kernel.contains(fd));
        let numbers: BTreeSet<Fd> = kernel.iter().copied().chain(known.keys().copied()).collect();
        self.counts.compared += 1;
        let before = (self.mismatches.len(), self.mismatch_count);
        let mut certain: Vec<(Fd, LifeId, FileId)> = Vec::new();
        for fd in numbers {
            let life = known.get(&fd).copied();
            if ahead.contains(&fd) || flights.is_touched(id, fd, life.is_some()) {
                self.counts.doubted += 1;
                continue;
            }
            if flights.is_in_doubt(id, fd, life.is_some()) {
                self.mismatch(tid, format!("fd {fd} is in doubt, and nobody is at it"));
                continue;
            }
            self.counts.descriptors += 1;
            let life = life.and_then(|l| world.life(l));
            let is = kernel.contains(&fd).then(|| procfs::descriptor(tid, fd)).flatten();
            match (life, is) {
                (Some(life), Some((file, cloexec))) => {
                    certain.push((fd, life.id, life.file));
                    let known = world.file(life.file).map(|f| &f.file);
                    let known = known.map(|f| Shown { file: f.clone(), cloexec: life.cloexec });
                    self.same_descriptor(tid, fd, known, &Shown { file, cloexec });
                }
                (Some(life), None) => {
                    self.mismatch(tid, format!("fd {fd} of {id} is {} in the model, closed in the kernel", life.file));
                }
                (None, Some((file, _))) => {
                    if file.kind == FileKind::Pidfd {
                        let sharing = world.tasks().filter(|(t, k)| *t != tid && k.table == id).map(|t| t.0);
                        let waiting = self.reported_later.entry((id, fd)).or_insert_with(|| sharing.collect());
                        if !waiting.is_empty() {
                            continue;
                        }
                    }
                    self.mismatch(tid, format!("fd {fd} of {id} is closed in the model, open in the kernel: {file:?}"));
                }
                (None, None) => {}
            }
        }
        let sorted = self.identities(tid, certain);
        // Another thread's exec, or a SIGKILL, ends a task that stands still, too; what was read of it is then worth nothing.
        if !procfs::has_table(tid) {
            self.mismatches.truncate(before.0);
            self.mismatch_count = before.1;
            return;
        }
        if self.mismatch_count > before.1 {
            let pid = world.task(tid).map(|t| t.pid);
            if world.tasks().any(|(t, k)| t != tid && Some(k.pid) == pid) {
                // Another thread's exec may have given this number to that thread already, and its table.
                let texts = self.mismatches.split_off(before.0.min(self.mismatches.len()));
                self.held.insert(tid, (texts, self.mismatch_count - before.1));
                self.mismatch_count = before.1;
                return;
            }
            self.control.stop();
        }
        self.peers(tid, id, world, flights, &sorted);
    }

    /// What one descriptor is.
    fn same_descriptor(&mut self, tid: Tid, fd: Fd, model: Option<Shown>, kernel: &Shown) {
        let Some(model) = model else { return self.mismatch(tid, format!("fd {fd} has no object in the model")) };
        let bare = |path: &[u8]| escape(path.strip_suffix(b" (deleted)").unwrap_or(path));
        let mut differs = Vec::new();
        if model.cloexec != kernel.cloexec {
            differs.push(format!("FD_CLOEXEC {} in the model, {} in the kernel", model.cloexec, kernel.cloexec));
        }
        if model.file.kind != kernel.file.kind {
            // What a call made is known better from the call than from the text of a link; but that must not say otherwise.
            let by_call = [FileKind::MessageQueue, FileKind::Memfd].contains(&model.file.kind);
            let unsaid = kernel.file.kind == FileKind::Other || by_call && kernel.file.kind == FileKind::Path;
            if !unsaid {
                differs.push(format!("{:?} in the model, {:?} in the kernel", model.file.kind, kernel.file.kind));
            }
        }
        let (m, k) = (bare(&model.file.path), bare(&kernel.file.path));
        if m != k {
            differs.push(format!("{m} in the model, {k} in the kernel"));
        }
        let (m, k) = (model.file.lasting_flags(), kernel.file.lasting_flags());
        if m != k {
            differs.push(format!("flags {m:#o} in the model, {k:#o} in the kernel"));
        }
        if !differs.is_empty() {
            self.mismatch(tid, format!("fd {fd} ({}): {}", bare(&kernel.file.path), differs.join("; ")));
        }
    }

    /// Which numbers are one open file description. Gives back one number of each, in the kernel's order; none if the task
    /// went while it was asked: another thread's exec may have given its number to that thread by now, and an order that
    /// was read half before that and half after it is none.
    fn identities(&mut self, tid: Tid, certain: Vec<(Fd, LifeId, FileId)>) -> Vec<(Fd, LifeId, FileId)> {
        // Not sort_by, which wants a total order: a task that is killed while it is asked about has none.
        let mut sorted: Vec<(Fd, LifeId, FileId)> = Vec::with_capacity(certain.len());
        let mut stayed = true;
        for one in certain {
            let at = sorted.partition_point(|o: &(Fd, LifeId, FileId)| {
                let order = procfs::compare_files(tid, o.0, tid, one.0);
                stayed &= order.is_some();
                order.is_some_and(|order| order != Ordering::Greater)
            });
            sorted.insert(at, one);
        }
        let mut groups: Vec<(Fd, LifeId, FileId)> = Vec::new();
        let mut met: HashMap<FileId, Fd> = HashMap::new();
        for one in sorted {
            self.counts.pairs += 1;
            let same = groups.last().is_some_and(|g| procfs::same_file(tid, g.0, tid, one.0));
            match (same, groups.last().copied()) {
                (true, Some(group)) => {
                    if group.2 != one.2 {
                        let text = format!(
                            "fd {} and {} are {} and {} in the model, one file in the kernel",
                            group.0, one.0, group.2, one.2
                        );
                        self.mismatch(tid, text);
                    } else if !self.same_place(tid, group.0, one.0) {
                        self.mismatch(tid, format!("fd {} and {} are one file, at two positions", group.0, one.0));
                    }
                }
                _ => {
                    if let Some(other) = met.insert(one.2, one.0) {
                        let text =
                            format!("fd {other} and {} are {} in the model, two files in the kernel", one.0, one.2);
                        self.mismatch(tid, text);
                    }
                    groups.push(one);
                }
            }
        }
        self.counts.cut += u64::from(!stayed);
        if stayed { groups } else { Vec::new() }
    }

    /// Whether two descriptors of one file show one position. Others may move it between two looks.
    fn same_place(&self, tid: Tid, a: Fd, b: Fd) -> bool {
        (0..100).any(|_| position(tid, a) == position(tid, b))
    }

    /// The table of `tid` against others', whose tasks may be running.
    fn peers(&mut self, tid: Tid, id: TableId, world: &World, flights: &Flights, sorted: &[(Fd, LifeId, FileId)]) {
        let mut others: Vec<(Tid, TableId)> = world.tasks().map(|(t, k)| (t, k.table)).filter(|t| t.0 != tid).collect();
        others.sort_unstable();
        if others.is_empty() {
            return;
        }
        let turn = self.counts.compared as usize % others.len();
        others.rotate_left(turn);
        others.truncate(PEERS);
        let by_file: HashMap<FileId, (Fd, LifeId)> = sorted.iter().map(|g| (g.2, (g.0, g.1))).collect();
        let mut seen = HashSet::new();
        for (other, table) in others {
            if let Some(order) = procfs::compare_tables(tid, other) {
                self.counts.tables += 1;
                if (order == Ordering::Equal) != (id == table) {
                    let says = if id == table { "one table in the model, two" } else { "two tables in the model, one" };
                    let text = format!("{tid} and {other} have {says} in the kernel");
                    self.suspects.push(Suspect { still: tid, task: other, table, lives: None, text });
                }
            }
            if table == id || !seen.insert(table) {
                continue;
            }
            let open = world.table(table).into_iter().flat_map(|t| t.open());
            for (n, life) in open.collect::<Vec<_>>() {
                if flights.is_in_doubt(table, n, true) {
                    continue;
                }
                let Some(file) = world.life(life).map(|l| l.file) else { continue };
                self.counts.pairs += 1;
                let mut known = true;
                let found = sorted.binary_search_by(|g| {
                    let order = procfs::compare_files(tid, g.0, other, n);
                    known &= order.is_some();
                    order.unwrap_or(Ordering::Less)
                });
                // It has just gone, or is about to be closed or to go.
                if !known {
                    continue;
                }
                let here = found.ok().and_then(|at| sorted.get(at));
                let (mine, expected, text) = match (by_file.get(&file), here) {
                    (Some(_), Some(h)) if h.2 == file => continue,
                    (None, None) => continue,
                    // The order may have been read while something in it changed: what it says is asked of the two themselves.
                    (Some((fd, _)), _) if procfs::same_file(tid, *fd, other, n) => continue,
                    (Some((fd, l)), _) => {
                        let text = format!(
                            "fd {fd} of {tid} and fd {n} of {other} are {file} in the model, two files in the kernel"
                        );
                        (*l, true, text)
                    }
                    (None, Some((fd, l, f))) => {
                        let text = format!(
                            "fd {fd} of {tid} and fd {n} of {other} are {f} and {file} in the model, one file in the kernel"
                        );
                        (*l, false, text)
                    }
                };
                self.suspects.push(Suspect {
                    still: tid,
                    task: other,
                    table,
                    lives: Some((mine, life, expected)),
                    text,
                });
            }
        }
    }

    /// `tid` has stopped: what was suspected of it is so, if nothing has changed that was on its way.
    fn confirm(&mut self, tid: Tid, world: &World) {
        let (mine, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.suspects).into_iter().partition(|s| s.task == tid);
        self.suspects = rest;
        for s in mine {
            let stands = match s.lives {
                // Who else had the table may be gone: a copy that was made before is then as good as the table itself.
                None => world.shares_table(tid),
                Some((a, b, same)) => match (world.life(a), world.life(b)) {
                    (Some(a), Some(b)) => b.end.is_none() && (a.file == b.file) == same,
                    _ => false,
                },
            };
            if stands && world.task(tid).is_some_and(|t| t.table == s.table) {
                let mut text = s.text;
                if let Some(life) = s.lives.and_then(|l| world.life(l.0)) {
                    text.push_str(&format!("; that of {}: {life:?}", s.still));
                }
                for line in self.last.get(&s.still).into_iter().flatten() {
                    text.push_str(&format!("\n      {}: {line}", s.still));
                }
                self.mismatch(tid, text);
                self.control.stop();
            }
        }
    }
}

/// An effect in a few words.
fn brief(effect: &Effect) -> String {
    match effect {
        Effect::Open { fd, cloexec, file } => {
            format!("opens {fd} {}{}", escape(&file.path), if *cloexec { " cloexec" } else { "" })
        }
        Effect::Receive { fd, cloexec, file, from } => {
            format!("receives {fd} {}{} of {from:?}", escape(&file.path), if *cloexec { " cloexec" } else { "" })
        }
        other => format!("{other:?}"),
    }
}

fn position(tid: Tid, fd: Fd) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
    text.lines().next().map(str::to_string)
}

/// The program that makes the calls, built if it is not there.
fn program(i386: bool) -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("target/targets").join(if i386 { "random_calls32" } else { "random_calls" });
    let lock = File::create(std::env::temp_dir().join("fdwatch-tests-build"))?;
    lock.lock()?;
    let make = std::process::Command::new("make").args(["-s", "-C"]).arg(root.join("tests/targets")).status()?;
    anyhow::ensure!(make.success() && path.exists(), "{}: cannot be built here", path.display());
    Ok(path)
}

fn main() -> anyhow::Result<()> {
    let options = Options::read(std::env::args_os().skip(1))?;
    if options.log {
        let to_stderr = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
        to_stderr.with_max_level(tracing::Level::TRACE).init();
    }
    let dir = tempfile::tempdir()?;
    let random = options.command.is_empty();
    let control = match random {
        true => Control(Some(
            File::options().create(true).truncate(true).read(true).write(true).open(dir.path().join("control"))?,
        )),
        false => Control(None),
    };
    let mut argv = options.command.clone();
    if random {
        argv.push(program(options.i386)?.into_os_string());
        let mut put = |name: &str, value: String| argv.extend([name.into(), value.into()]);
        put("-c", options.calls.to_string());
        put("-s", options.seed.to_string());
        put("-p", options.processes.to_string());
        put("-t", options.threads.to_string());
        put("-o", options.groups.clone());
        argv.extend(["-d".into(), dir.path().as_os_str().to_os_string()]);
    }
    let mut oracle = Oracle::new(options.every(), options.log, control);
    let command = Command { argv, own_group: true, seccomp: !options.all_calls };
    let launched = Launched::start(&command, &Caught::new())?;
    let outcome = Session::new(launched, Policy::default(), options.all_calls).run(&mut oracle)?;
    let calls = oracle.control.calls();
    for (calls, text) in &oracle.mismatches {
        eprintln!("after {calls} calls: {text}");
    }
    if outcome.status != ExitStatus::Code(0) {
        eprintln!("the target ended otherwise than by itself: {:?}", outcome.status);
    }
    let c = &oracle.counts;
    eprintln!(
        "{calls} calls, {} processes, {} of {} stops compared: {} descriptors ({} more were being changed), {} identities, {} tables; {} races settled, {} orders cut short; {} mismatches",
        oracle.control.processes(),
        c.compared,
        c.stops,
        c.descriptors,
        c.doubted,
        c.pairs,
        c.tables,
        c.settled,
        c.cut,
        oracle.mismatch_count
    );
    drop(dir);
    if let (Some((first, _)), true, false) = (oracle.mismatches.first(), random, options.once) {
        shorten(&options, *first)?;
    }
    let failed = oracle.mismatch_count > 0 || outcome.status != ExitStatus::Code(0);
    std::process::exit(i32::from(failed));
}

/// Seeks the mismatch again, with every stop looked at and ever fewer calls, and prints the shortest run that shows one.
fn shorten(options: &Options, first: u32) -> anyhow::Result<()> {
    let mut calls = first;
    let mut best = None;
    for _ in 0..RERUNS {
        let args = options.again(calls);
        let done = std::process::Command::new(std::env::current_exe()?).args(&args).output()?;
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        let at = text.lines().find_map(|l| l.strip_prefix("after ")?.split(' ').next()?.parse::<u32>().ok());
        let Some(at) = at else {
            // Which of several tasks comes first is not the seed's to say.
            continue;
        };
        let shorter = best.as_ref().is_none_or(|(b, _)| at < *b);
        if shorter {
            best = Some((at, text));
        }
        if !shorter || at == 0 {
            break;
        }
        calls = at;
    }
    match best {
        Some((at, text)) => {
            eprintln!("\nwith {at} calls it is there:\n  oracle {}\n{text}", options.again(at).join(" "))
        }
        None => eprintln!("\nit did not come again in {RERUNS} runs of {first} calls with every stop compared"),
    }
    Ok(())
}
