//! `fd-growth`: the table grows towards its limit; the opening sites that grow.

use super::{About, Confidence, Finding, Rule, Seen, Severity, called, object, opened};
use crate::base::{PyStackId, StackId, TableId};
use crate::model::{Change, Life, Origin};
use std::collections::HashMap;

/// The limit where it is not known (linux/fs.h, INR_OPEN_CUR).
const USUAL: u64 = 1024;
/// Tables that are counted at once.
const MOST: usize = 4096;

/// The rule. Counts, and looks at the lives when three quarters of the limit are open.
#[derive(Default)]
pub(super) struct FdGrowth {
    open: HashMap<TableId, u64>,
    looks: HashMap<TableId, Look>,
}

/// A look at a table.
#[derive(Clone, Copy, Default)]
struct Look {
    at: u64,
    /// So many were open.
    open: u64,
    /// With so many open it is looked at again.
    next: u64,
}

static ABOUT: About = About {
    name: "fd-growth",
    severity: Severity::Warning,
    summary: "the table grows towards its limit; the opening sites that grow",
    page: include_str!("pages/fd-growth.md"),
};

impl Rule for FdGrowth {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let world = seen.world;
        let mut grown = None;
        for change in seen.changes {
            match change {
                Change::Began(id) => {
                    let Some(life) = world.life(*id) else { continue };
                    if self.open.len() >= MOST && !self.open.contains_key(&life.table) {
                        continue;
                    }
                    let open = self.open.entry(life.table).or_default();
                    *open += 1;
                    if !matches!(life.origin, Origin::Inherited(_) | Origin::Unshared(_) | Origin::Present) {
                        grown = Some((life.table, *open));
                    }
                }
                Change::Ended(id) => {
                    let Some(table) = world.life(*id).map(|l| l.table) else { continue };
                    if let Some(open) = self.open.get_mut(&table) {
                        *open = open.saturating_sub(1);
                        if *open == 0 {
                            self.open.remove(&table);
                            self.looks.remove(&table);
                        }
                    }
                }
                Change::Cloexec(_) => {}
            }
        }
        let Some((table, open)) = grown else { return Vec::new() };
        let Some(pid) = world.task(seen.event.tid).map(|t| t.pid) else { return Vec::new() };
        let limit = world.process(pid).and_then(|p| p.program.most_fds).unwrap_or(USUAL);
        let last = self.looks.get(&table).copied();
        if open < last.map_or(limit.saturating_mul(3) / 4, |l| l.next).max(1) {
            return Vec::new();
        }
        let found = look(seen, table, (open, limit), last.unwrap_or_default());
        // Told once, and once more each time that it has doubled: the limit may have been raised. Where nothing stands out
        // yet it may soon; a few looks more are all that fit below the limit.
        let next = if found.is_some() { open.saturating_mul(2) } else { open.saturating_add((limit / 16).max(16)) };
        self.looks.insert(table, Look { at: seen.event.at, open, next });
        found.into_iter().collect()
    }
}

/// What a site has opened and how much of that is over.
struct Site<'w> {
    open: u64,
    ended: u64,
    /// How many of those that are open came since the look before.
    fresh: u64,
    last: &'w Life,
}

/// What stands out among the lives of a table with `open` of `limit` numbers in use: where half of all that is open comes
/// from, or half of what has come since the look before, if that is much.
fn look(seen: &Seen<'_>, table: TableId, (open, limit): (u64, u64), before: Look) -> Option<Finding> {
    let world = seen.world;
    let mut sites: HashMap<(Option<StackId>, Option<PyStackId>), Site<'_>> = HashMap::new();
    for life in world.lives().filter(|l| l.table == table) {
        if matches!(life.origin, Origin::Inherited(_) | Origin::Unshared(_) | Origin::Present) {
            continue;
        }
        let key = (life.began.site.stack, life.began.site.py);
        let site = sites.entry(key).or_insert(Site { open: 0, ended: 0, fresh: 0, last: life });
        match &life.end {
            Some(_) => site.ended += 1,
            None => {
                site.open += 1;
                site.fresh += u64::from(life.began.at > before.at);
            }
        }
        if (life.end.is_none(), life.id) > (site.last.end.is_none(), site.last.id) {
            site.last = life;
        }
    }
    // A server has many clients, and each of them goes; what grows does not.
    let grown = open.saturating_sub(before.open);
    let stands_out = |s: &&Site<'_>| s.open >= open / 2 || (2 * s.fresh >= grown && s.open >= open / 8);
    let growing = sites.values().filter(|s| s.open > 8 * s.ended).filter(stands_out);
    let most = growing.max_by_key(|s| (s.open, s.last.id))?;
    let life = most.last;
    let pid = world.task(seen.event.tid)?.pid;
    Some(Finding {
        name: ABOUT.name,
        severity: ABOUT.severity,
        confidence: Confidence::Likely,
        fd: life.fd,
        tid: seen.event.tid,
        pid,
        title: format!(
            "process {pid} ({}) has {open} descriptors open, {} of them from one place; it may have {limit}",
            called(world, pid),
            most.open
        ),
        object: object(world, life)?,
        steps: vec![opened(life)],
        evidence: vec![match most.ended {
            0 => format!("{} were opened here, and none of them was closed", most.open),
            n => format!("{} were opened here, and only {n} of them were closed", most.open + n),
        }],
        help: "close each when its work is done; where it is meant, raise the limit (RLIMIT_NOFILE)".into(),
        count: 1,
        parts: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn own(found: Vec<Finding>) -> usize {
        found.iter().filter(|f| f.name == "fd-growth").count()
    }

    #[test]
    fn a_table_that_only_grows_is_told_once_before_its_limit() {
        let mut s = Script::with_stdio();
        let told: usize = (3..1024).map(|fd| own(s.open(MAIN, fd, "/tmp/a"))).sum();
        assert_eq!(told, 1);
    }

    #[test]
    fn one_place_that_grows_after_the_first_look_is_told_once() {
        for place in [0, 9] {
            let mut s = Script::with_stdio();
            let mut open = |fd: i32, place| {
                let site = crate::event::Site { stack: Some(StackId(place)), ..Default::default() };
                own(s.at(site).open(MAIN, fd, "/tmp/a"))
            };
            assert_eq!((3..768).map(|fd| open(fd, fd as u32 % 3)).sum::<usize>(), 0, "no place has half of them");
            assert_eq!((768..1005).map(|fd| open(fd, place)).sum::<usize>(), 1, "place {place}");
            assert_eq!((1005..1500).map(|fd| open(fd, place)).sum::<usize>(), 0, "told");
        }
    }

    #[test]
    fn a_server_whose_clients_come_and_go_is_silent() {
        let mut s = Script::with_stdio();
        let mut told = 0;
        for fd in 3..1020 {
            told += own(s.open(MAIN, fd, "socket:[5]"));
            if fd % 4 == 0 {
                told += own(s.close(MAIN, fd));
                told += own(s.open(MAIN, fd, "socket:[5]"));
            }
        }
        assert_eq!(told, 0);
        let mut s = Script::with_stdio();
        assert_eq!((3..700).map(|fd| own(s.open(MAIN, fd, "/tmp/a"))).sum::<usize>(), 0, "not yet");
    }
}
