//! How events are written down and read back, where the derived way would lose something.

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// Any bytes: a string where they are UTF-8, else a list of numbers.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => to.serialize_str(text),
            Err(_) => to.collect_seq(bytes),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_any(BytesVisitor)
    }

    struct BytesVisitor;

    impl<'de> Visitor<'de> for BytesVisitor {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of bytes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            Ok(text.as_bytes().to_vec())
        }

        fn visit_string<E: Error>(self, text: String) -> Result<Vec<u8>, E> {
            Ok(text.into_bytes())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
            let mut out = Vec::new();
            while let Some(byte) = seq.next_element()? {
                out.push(byte);
            }
            Ok(out)
        }
    }
}

/// A list of [`bytes`].
pub(crate) mod many_bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        struct One<'a>(&'a [u8]);
        impl Serialize for One<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                bytes::serialize(self.0, to)
            }
        }
        let mut seq = to.serialize_seq(Some(list.len()))?;
        for item in list {
            seq.serialize_element(&One(item))?;
        }
        seq.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
        #[derive(Deserialize)]
        struct One(#[serde(with = "bytes")] Vec<u8>);
        Ok(Vec::<One>::deserialize(from)?.into_iter().map(|o| o.0).collect())
    }
}

/// The name of a call, which lives as long as the program.
///
/// It comes from the table of calls, which this layer does not know, and a log may name calls of another version's
/// table. So a name that is read is kept for good; how many there can be is bounded.
pub(crate) mod call_name {
    use super::*;

    /// More than the kernel has calls.
    const NAMES: usize = 1024;
    /// The longest name, in bytes.
    const LENGTH: usize = 64;

    thread_local! {
        static KNOWN: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(from)?;
        KNOWN.with_borrow_mut(|known| {
            if let Some(name) = known.get(&*name) {
                return Ok(*name);
            }
            if name.is_empty() || name.len() > LENGTH {
                return Err(D::Error::custom(format!("a call's name has 1 to {LENGTH} bytes")));
            }
            if known.len() >= NAMES {
                return Err(D::Error::custom(format!("more than {NAMES} calls with different names")));
            }
            let name: &'static str = Box::leak(name.into_owned().into_boxed_str());
            known.insert(name);
            Ok(name)
        })
    }
}

/// Whether a value is what it is when nothing is said of it: then nothing is written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use crate::base::{Fd, Pid, PyStackId, StackId, Tid};
    use crate::event::*;

    fn there_and_back(event: &Event) -> String {
        let text = serde_json::to_string(event).unwrap();
        let back: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(back, *event, "{text}");
        text
    }

    fn file(path: &[u8]) -> NewFile {
        NewFile { kind: FileKind::PipeRead, path: path.to_vec(), flags: u32::MAX }
    }

    /// One of each kind, with the largest numbers and bytes that are no text.
    fn all() -> Vec<EventKind> {
        let program = Program {
            exe: b"/bin/\xff".to_vec(),
            argv: vec![b"a\n\"".to_vec(), vec![], vec![0x80]],
            env: vec![b"MAKEFLAGS=\xff".to_vec()],
            most_fds: Some(u64::MAX),
        };
        let present = Present { fd: Fd(3), cloexec: true, file: file(b"/x"), same_as: Some((Tid(1), Fd(4))) };
        let site = Site {
            stack: Some(StackId(u32::MAX)),
            py: Some(PyStackId(0)),
            cause: Cause::Collector,
            escape: Some(Escape::Holds("n\u{202e}".into())),
            owner: Some("n\u{202e}.so".into()),
        };
        let info = CallInfo { name: "close", args: [u64::MAX, 1 << 63, 0, 0, 0, 1], ret: Some(i64::MIN) };
        let effects = vec![
            Effect::Open { fd: Fd(-1), cloexec: false, file: file(b"\0\xc3\x28") },
            Effect::Receive { fd: Fd(i32::MAX), cloexec: true, file: file(b""), from: Some((Tid(1), Fd(2))) },
            Effect::Alias { from: Fd(1), to: Fd(2), cloexec: true },
            Effect::Cloexec { fd: Fd(1), on: true },
            Effect::Close { fd: Fd(1) },
            Effect::CloseRange { first: 3, last: u32::MAX, mark: true },
            Effect::Unshare,
            Effect::Refused { fd: Fd(1), to: None, close: true },
            Effect::Vain { fd: Fd(1) },
            Effect::NotExecuted {
                path: b"./\xff".to_vec(),
                file: b"/x".to_vec(),
                inode: Some(Inode { dev: (u32::MAX, 1), ino: u64::MAX }),
                writers: Some(vec![(Tid(1), Fd(i32::MAX))]),
                since: u64::MAX,
            },
            Effect::NotExecuted { path: vec![], file: vec![], inode: None, writers: Some(vec![]), since: 0 },
            Effect::Altered { how: Alteration::Return(i64::MIN), fds: vec![Fd(1), Fd(2)], path: b"/\xc3\x28".to_vec() },
            Effect::Altered { how: Alteration::Keep, fds: vec![], path: vec![] },
            Effect::Altered { how: Alteration::Quarantine, fds: vec![Fd(3)], path: vec![] },
        ];
        let held = vec![(Fd(3), Held::Number("n".into())), (Fd(4), Held::Object("f".into()))];
        let start = |table| Start { pid: Pid(1), parent: Some(Pid(2)), program: program.clone(), table };
        vec![
            EventKind::Start(start(Found::Own(vec![present.clone()]))),
            EventKind::Start(start(Found::SharedWith(Tid(7)))),
            EventKind::Call(Call { info, effects, site: site.clone() }),
            EventKind::Call(Call { info: CallInfo { ret: None, ..info }, effects: vec![], site: Site::default() }),
            EventKind::Fork(Fork {
                child: Tid(2),
                child_pid: Pid(2),
                shares_files: true,
                shares_memory: false,
                site: Site { cause: Cause::Stream, escape: Some(Escape::FilenoCall), ..site },
                held,
                plumbing: vec![Plumbing { fd: Fd(3), at: u64::MAX, outside: vec![0, 1], by: Frames::Python }],
            }),
            EventKind::Exec { former: Tid(9), program },
            EventKind::Exit { status: ExitStatus::Code(255) },
            EventKind::Exit { status: ExitStatus::Signal(64) },
            EventKind::Reconciled {
                raced: true,
                corrections: vec![
                    Correction::Appeared(present),
                    Correction::Vanished { fd: Fd(1) },
                    Correction::Cloexec { fd: Fd(1), on: false },
                    Correction::Same { fd: Fd(1), with: (Tid(1), Fd(2)) },
                ],
            },
        ]
    }

    #[test]
    fn an_event_is_read_back_as_it_was() {
        for kind in all() {
            there_and_back(&Event { at: u64::MAX, tid: Tid(i32::MIN), kind });
        }
    }

    #[test]
    fn text_is_readable_and_other_bytes_are_kept() {
        let of = |path: &[u8]| {
            let effects = vec![Effect::Open { fd: Fd(3), cloexec: false, file: file(path) }];
            let info = CallInfo { name: "openat", args: [0; 6], ret: Some(3) };
            let kind = EventKind::Call(Call { info, effects, site: Site::default() });
            there_and_back(&Event { at: 1, tid: Tid(2), kind })
        };
        assert!(of("/tmp/größe".as_bytes()).contains(r#""path":"/tmp/größe""#));
        assert!(of(b"/\xff").contains(r#""path":[47,255]"#));
    }

    #[test]
    fn an_exec_that_failed_is_read_from_a_log_that_does_not_tell_who_writes() {
        let old: Effect = serde_json::from_str(r#"{"not_executed":{"path":"./x","file":"/x","since":7}}"#).unwrap();
        let told =
            Effect::NotExecuted { path: b"./x".to_vec(), file: b"/x".to_vec(), inode: None, writers: None, since: 7 };
        assert_eq!(old, told);
    }

    #[test]
    fn names_of_calls_are_bounded() {
        let read = |name: &str| {
            serde_json::from_str::<CallInfo>(&format!(r#"{{"name":"{name}","args":[0,0,0,0,0,0]}}"#)).map(|i| i.name)
        };
        assert!(std::ptr::eq(read("frobnicate").unwrap(), read("frobnicate").unwrap()), "kept once");
        assert!(read("").is_err() && read(&"x".repeat(65)).is_err());
        // A thread of its own: the bound is for all that it reads.
        std::thread::spawn(|| {
            let read = |n: u32| {
                serde_json::from_str::<CallInfo>(&format!(r#"{{"name":"n{n}","args":[0,0,0,0,0,0]}}"#)).is_ok()
            };
            assert_eq!((0..5000).filter(|n| read(*n)).count(), 1024);
            assert!(read(0), "what is known stays known");
        })
        .join()
        .unwrap();
    }
}
