//! A finding as text.

use super::record::{FindingRecord, StepRecord};
use super::style::{Ink, Style, keep_start, wrap};
use super::{Names, Sources};
use crate::base::Fd;
use crate::base::text::duration;
use crate::event::Cause;
use crate::finding::{Confidence, Finding, Role, Severity};

/// Where the text behind a label begins.
const INDENT: usize = 10;

/// `finding` as text, several lines, each with its end.
pub fn finding(finding: &Finding, names: &mut dyn Names, sources: &mut dyn Sources, style: Style) -> String {
    record(&FindingRecord::of(finding, names, sources), style)
}

/// A record as text, several lines, each with its end.
pub fn record(f: &FindingRecord, style: Style) -> String {
    let ink = match f.severity {
        Severity::Error => Ink::Error,
        Severity::Warning => Ink::Warning,
        Severity::Note => Ink::Note,
    };
    let head = style.paint(ink, &format!("{}[{}]", f.severity, f.name));
    let times = if f.count > 1 { format!(" ({} times)", f.count) } else { String::new() };
    let mut out = format!("{head}: {}{times}\n", style.paint(Ink::Strong, &f.title));
    let mut object = f.object.text();
    if !f.object.flags.is_empty() {
        object += &format!(" ({})", f.object.flags);
    }
    if let Some(ns) = f.object.lasted_ns {
        object += &format!(", lived {}", duration(ns));
    }
    line(&mut out, style, "object", &object);
    for step in &f.steps {
        line(&mut out, style, step.role.word(), &told(step, f.fd, style));
        // The reuse is told without its place, where the runtime says more.
        if let Some(source) = step.source.as_ref().filter(|_| step.role != Role::Reused) {
            line(&mut out, style, "", &style.paint(Ink::Dim, &keep_start(source, style.width.saturating_sub(INDENT))));
        }
        let chain = step.chain.join(" < ");
        if !chain.is_empty() && step.role != Role::Used {
            line(&mut out, style, "", &style.paint(Ink::Dim, &format!("native: {chain}")));
        }
        if let Some(why) = &step.incomplete {
            line(&mut out, style, "", &style.paint(Ink::Dim, &format!("stack incomplete: {why}")));
        }
    }
    let mut why = f.evidence.clone();
    if f.confidence != Confidence::Certain {
        why.push(format!("this is {}, not certain", f.confidence));
    }
    if !why.is_empty() {
        line(&mut out, style, "why", &wrap(&why.join("; "), INDENT, INDENT, style.width));
    }
    if !f.help.is_empty() {
        line(&mut out, style, "help", &wrap(&f.help, INDENT, INDENT, style.width));
    }
    out
}

fn line(out: &mut String, style: Style, label: &str, text: &str) {
    let label = style.paint(Ink::Label, &format!("{label:<width$}", width = INDENT - 2));
    out.push_str(format!("  {label}{text}").trim_end());
    out.push('\n');
}

fn told(step: &StepRecord, fd: Fd, style: Style) -> String {
    let who = format!("[{}]", step.tid);
    let place = step.place.as_deref().map(|p| style.paint(Ink::Place, p));
    let inside = step.runtime.as_ref().map(|r| format!(", in {r}")).unwrap_or_default();
    let call = step.call.as_deref().unwrap_or_else(|| without_call(&step.what));
    let note = step.note.as_ref().map(|n| format!(" {n}")).unwrap_or_default();
    match step.role {
        Role::Opened => match (&place, &step.call_name) {
            (Some(p), Some(name)) => format!("{who} {p}{inside}: {name}(){note}"),
            (Some(p), None) => format!("{who} {p}{inside}: {call}{note}"),
            (None, _) => format!("{who} {call}{note}"),
        },
        Role::Closed => {
            // What no code asked for is told without the call.
            let call = if says_call(step) { format!(": {call}") } else { String::new() };
            match (&place, &step.why) {
                (Some(p), Some(how)) => format!("{who} {p}{inside}, {how}{call}{note}"),
                (Some(p), None) => format!("{who} {p}{inside}{call}{note}"),
                (None, Some(how)) if step.call.is_some() => {
                    format!("{who} {}, {how}{note}", step.call.as_deref().unwrap_or_default())
                }
                (None, Some(how)) => format!("{who} {how}{note}"),
                (None, None) => format!("{who} {call}{note}"),
            }
        }
        Role::Reused => {
            let what = step.object.as_ref().map_or_else(|| "another object".to_string(), |o| o.text());
            let at = match (&step.runtime, &place) {
                (Some(r), _) => format!(" in {r}"),
                (None, Some(p)) => format!(" at {p}"),
                (None, None) => format!(" by {call}"),
            };
            format!("{who} fd {fd} became {what}{at}{note}")
        }
        Role::Used => {
            let got = step.object.as_ref().map(|o| format!(": {}", o.text())).unwrap_or_default();
            let note = step
                .note
                .as_ref()
                .map_or(String::new(), |n| if got.is_empty() { format!(" {n}") } else { format!(", {n}") });
            let at = place.map(|p| format!("{p}{inside}: ")).unwrap_or_default();
            let call = match step.what.as_str() {
                "exec" => "execve",
                "fork" => "fork",
                _ => call,
            };
            format!("{who} {at}{call}{got}{note}")
        }
    }
}

fn without_call(what: &str) -> &'static str {
    match what {
        "exec" => "close-on-exec, by execve",
        "exit" => "the last task of its table ended",
        "fork" => "a fork copied it",
        "present" => "open when fdwatch began to look",
        _ => "unknown",
    }
}

/// Whether the call belongs to the story: code asked for it, or it says what happened.
fn says_call(step: &StepRecord) -> bool {
    !(step.cause.is_implicit() || matches!(step.cause, Cause::Shutdown | Cause::Destructor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PyStackId, StackId};
    use crate::event::{Escape, Site};
    use crate::finding::testing::{MAIN, Script};
    use crate::render::testing::{PaperNames, PaperSources, cpython};

    fn site(n: u32, cause: Cause) -> Site {
        let py = if n == 2 { 1 } else { n };
        let escape = cause.is_implicit().then_some(Escape::FilenoCall);
        Site { stack: Some(StackId(n)), py: Some(PyStackId(py)), cause, escape, owner: None }
    }

    fn acceptance(path: &str, cause: Cause) -> Finding {
        let mut s = Script::new();
        s.at(site(1, Cause::Explicit)).open(MAIN, 3, path);
        s.at(site(2, cause)).close(MAIN, 3);
        s.at(site(3, Cause::Explicit)).pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.close(200, 3);
        s.refused(200, 3, Some(1)).remove(0)
    }

    #[test]
    fn the_first_acceptance_case_reads_as_it_should() {
        let text = finding(
            &acceptance("/tmp/a", Cause::Finalizer),
            &mut cpython(),
            &mut PaperSources::default(),
            Style::plain(),
        );
        let expected = "\
error[stale-fd-to-child]: child 200 of job was given fd 3 as stdout, but 3 had already been closed
  object  #1 /tmp/a (O_WRONLY|O_CREAT|O_CLOEXEC), lived 1.0 µs
  opened  [100] job.py:2 in <module>: openat()
          native: _io_FileIO___init__ < __open64
  closed  [100] job.py:2 in <module>, by reference count, no close() call
          native: textiowrapper_dealloc < iobase_finalize < __close
  reused  [100] fd 3 became #2 pipe:[9] (read end) in subprocess.py _execute_child
          native: os_pipe < __pipe2
  used    [200] dup2(3, 1) = EBADF between vfork and execve
  why     no code called close(): the last reference went away; the frame was at
          a call of fileno() on a temporary
  help    keep the file object alive until the child has started: f = open(...);
          run(..., stdout=f)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_implicit_cause_is_named() {
        let closed = |cause| {
            let text =
                finding(&acceptance("/tmp/a", cause), &mut cpython(), &mut PaperSources::default(), Style::plain());
            let line = text.lines().find(|l| l.starts_with("  closed")).unwrap();
            line.trim_start_matches("  closed  [100] job.py:2 in <module>").to_string()
        };
        assert_eq!(closed(Cause::Collector), ", by the garbage collector, no close() call");
        assert_eq!(closed(Cause::Shutdown), ", at interpreter shutdown");
    }

    #[test]
    fn what_code_asked_for_shows_its_call() {
        let mut s = Script::new();
        s.at(site(1, Cause::Explicit)).open(MAIN, 3, "/tmp/a");
        s.at(site(3, Cause::Explicit)).close(MAIN, 3);
        s.fork(MAIN, 200);
        let f = s.refused(200, 3, Some(1)).remove(0);
        let mut sources = PaperSources::default();
        sources.0.insert(("job.py".into(), 2), "\tf.close()  # \x1b".into());
        let text = finding(&f, &mut cpython(), &mut sources, Style::plain());
        let expected = "  closed  [100] job.py:2 in <module>, in subprocess.py _execute_child, explicit: close(3) = 0\n          \
                        f.close()  # \\x1b\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn without_stacks_the_calls_are_told() {
        let f = acceptance("/tmp/a", Cause::Finalizer);
        let text = finding(&f, &mut PaperNames::default(), &mut PaperSources::default(), Style::plain());
        assert!(
            text.contains("  opened  [100] openat(AT_FDCWD, \"/tmp/a\", O_WRONLY|O_CREAT|O_CLOEXEC) = 3\n"),
            "{text}"
        );
        assert!(text.contains("  closed  [100] close(3) = 0, by reference count, no close() call\n"), "{text}");
        assert!(text.contains("  reused  [100] fd 3 became #2 pipe:[9] (read end) by pipe2("), "{text}");
    }

    #[test]
    fn a_hostile_path_obeys_nobody_and_colour_is_ours_only() {
        let f = acceptance("/tmp/\x1b[31m\n\u{202e}x", Cause::Finalizer);
        let text = finding(&f, &mut cpython(), &mut PaperSources::default(), Style::plain());
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
        assert!(text.contains("/tmp/\\x1b[31m\\n\\u{202e}x"), "{text}");
        assert!(finding(&f, &mut cpython(), &mut PaperSources::default(), Style::colored()).contains("\x1b[1m"));
    }

    #[test]
    fn a_record_survives_json() {
        let r =
            FindingRecord::of(&acceptance("/tmp/a", Cause::Finalizer), &mut cpython(), &mut PaperSources::default());
        let json = serde_json::to_string(&r).unwrap();
        assert_eq!(serde_json::from_str::<FindingRecord>(&json).unwrap(), r);
    }
}
