//! Lists the files of the page, so that whatever is put into `ui/` is embedded.

use std::fmt::Write as _;
use std::path::Path;

/// What a page is made of; tests and their packages lie in folders of their own.
const ENDINGS: [&str; 4] = ["html", "css", "js", "svg"];

fn main() {
    // As it is now, not as it was when this was compiled: a copy of the repository may use the same build folder.
    let own = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&own).join("../../ui");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of a folder").path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)));
    files.sort();
    let mut list = String::from("&[\n");
    for path in files {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_name().expect("a file has a name").to_str().expect("names of the page are plain");
        writeln!(list, "    Asset {{ name: {name:?}, bytes: include_bytes!({path:?}) }},").expect("a string grows");
    }
    list.push_str("]\n");
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("assets.rs"), list).expect("cargo's own folder can be written");
}
