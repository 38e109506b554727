//! The `fdwatch` program.
fn main() {
    use fdwatch::kernel::*;
    let argv: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    let signals = Caught::new();
    let l = Launched::start(&Command { argv, own_group: false, seccomp: true }, &signals);
    let l = match l {
        Ok(l) => l,
        Err(e) => {
            eprintln!("fdwatch: {e}");
            std::process::exit(e.status().into())
        }
    };
    let mut s = fdwatch::session::Session::new(l, Default::default(), false);
    let o = s.run(&mut fdwatch::session::Quiet).unwrap();
    let fs = s.findings().to_vec();
    use fdwatch::render::Names;
    for f in &fs {
        eprintln!("{}[{}] {}\n  object {:?}", f.severity, f.name, f.title, f.object);
        for st in &f.steps {
            eprintln!(
                "  {:?} {:?} tid {} {:?} {:?}",
                st.role, st.moment.what, st.moment.tid, st.moment.site.cause, st.moment.site.escape
            );
            let mut n = s.names();
            if let Some(p) = st.moment.site.py {
                for fr in n.python(p).iter().take(4) {
                    eprintln!("      py {}:{:?} {}", fr.file, fr.line, fr.function);
                }
            }
            if let Some(p) = st.moment.site.stack {
                for fr in n.native(p).iter().take(6) {
                    eprintln!("      {:?} {:?}:{:?}", fr.function, fr.file, fr.line);
                }
            }
        }
        eprintln!("  evidence {:?}", f.evidence);
    }
    eprintln!("{o:?} {:?} {:?}", s.unseen(), s.python_coverage());
}
