//! Writes inputs to begin with into `corpus/`, made of real programs: `cargo run --bin seeds` in this folder.

#[path = "../../tests/fuzzed/mod.rs"]
mod fuzzed;

use object::{Object, ObjectSection};
use std::path::Path;
use std::process::Command;

const BUILDS: [(&str, &[&str]); 7] = [
    ("dwarf5", &["-O2", "-g", "-gdwarf-5"]),
    ("dwarf4", &["-O1", "-g", "-gdwarf-4"]),
    ("split5", &["-O2", "-g", "-gdwarf-5", "-gsplit-dwarf"]),
    ("split4", &["-O2", "-g", "-gdwarf-4", "-gsplit-dwarf"]),
    ("packed", &["-O1", "-g", "-gz=zlib"]),
    ("frame", &["-O1", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]),
    ("stripped", &["-O1", "-s"]),
];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let dir = root.join("corpus").join(target);
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join(name), bytes).expect("a seed");
    };
    write("maps", "self", &std::fs::read("/proc/self/maps").expect("the map of this process"));
    for magic in [0xffff_fffbu32, 0xffff_fffa, 0xffff_fff0, 0xffff_fff1] {
        write("go", &format!("{magic:x}"), &fuzzed::go_table(magic));
    }
    let dir = tempfile::tempdir().expect("a folder");
    for source in ["odd", "small", "deep"] {
        for (label, flags) in BUILDS {
            let out = dir.path().join(format!("{source}-{label}"));
            let from = root.join("../tests/targets/stack").join(source).with_extension("c");
            let mut cc = Command::new("cc");
            cc.args(flags).current_dir(dir.path()).arg("-Wl,--build-id").arg("-o").arg(&out).arg(from);
            if source == "small" {
                cc.args(["-nostdlib", "-static", "-no-pie", "-fno-pie", "-fno-stack-protector"]);
            }
            assert!(cc.status().expect("cc").success(), "{cc:?}");
            let bytes = std::fs::read(&out).expect("the program");
            let name = format!("{source}-{label}");
            write("elf", &name, &[&[0; 16][..], &bytes].concat());
            let file = object::File::parse(&*bytes).expect("ELF");
            let section = |name| file.section_by_name(name).and_then(|s| s.uncompressed_data().ok());
            let data: Vec<_> = fuzzed::SECTIONS.iter().filter_map(|n| Some((*n, section(n)?))).collect();
            let data: Vec<_> = data.iter().map(|(n, bytes)| (*n, &**bytes)).collect();
            write("names", &name, &fuzzed::pack(&data));
            for (kind, name) in [(0, ".eh_frame"), (1, ".debug_frame")] {
                let Some(table) = section(name) else { continue };
                let stack = [[3u8, 1, 0, 0, 0, 0, 0, 0], [8, 2, 1, 0, 0, 0, 0, 0]].concat();
                let head = [vec![0; 16], vec![2, kind], stack].concat();
                write("unwind", &format!("{source}-{label}-{kind}"), &[head, table.to_vec()].concat());
            }
        }
    }
}
