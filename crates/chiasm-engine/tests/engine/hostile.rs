//! Folders as they are met: broken, huge, looping, changing. Each file ends as an item or as a refusal with its reason.
use std::io::Write;
use std::path::Path;

use crate::common::{set, write_png, write_wav};
use chiasm_engine::{IndexReport, Refusal};

fn reason<'a>(report: &'a IndexReport, name: &str) -> &'a str {
    let found = report.refused.iter().find(|r: &&Refusal| r.path.file_name().unwrap().to_string_lossy().contains(name));
    &found.unwrap_or_else(|| panic!("{name} was not refused: {report:?}")).reason
}

/// A PNG that says it is 20,000 pixels square, in a few dozen bytes.
fn write_bomb(path: &Path) {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let mut body = kind.to_vec();
        body.extend(data);
        let mut crc = u32::MAX;
        for byte in &body {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            }
        }
        bytes.extend(body);
        bytes.extend((!crc).to_be_bytes());
    };
    let mut header = Vec::new();
    header.extend(20_000u32.to_be_bytes());
    header.extend(20_000u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    chunk(b"IHDR", &header);
    chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0, 0, 0, 1, 0, 1]);
    chunk(b"IEND", &[]);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_hostile_folder_is_taken_in_as_far_as_it_can_be() {
    let set = set(0..2);
    let at = |name: &str| set.files.join(name);
    write_png(&at("whole.png"), 20);
    let whole = std::fs::read(at("whole.png")).unwrap();
    std::fs::write(at("truncated.png"), &whole[..whole.len() / 3]).unwrap();
    std::fs::write(at("empty.wav"), b"").unwrap();
    write_bomb(&at("bomb.png"));
    std::fs::write(at("nan.csv"), "a,b\n1,2\nNaN,3\n4,5\n").unwrap();
    let mut long = std::fs::File::create(at("long.txt")).unwrap();
    for i in 0..90_000 {
        writeln!(long, "Line {i} of a text of about five million bytes, all in all.").unwrap();
    }
    drop(long);
    assert!(std::fs::metadata(at("long.txt")).unwrap().len() > 5_000_000);
    write_png(&at("照片 一.png"), 21);
    std::fs::write(at("not what it says.jpg"), &std::fs::read(at("sounds/000.wav")).unwrap()[..]).unwrap();
    std::fs::write(at("program.exe"), b"MZ").unwrap();
    std::fs::write(at(".hidden.png"), &whole).unwrap();
    write_wav(&at("recording.wav"), 3, 65.0);
    let mut expected_new = 10 + 3 + 2;
    #[cfg(unix)]
    {
        write_png(&at("two\nlines.png"), 22);
        use std::os::unix::ffi::OsStrExt;
        write_png(&set.files.join(std::ffi::OsStr::from_bytes(b"not \xff unicode.png")), 23);
        expected_new += 2;
        std::os::unix::fs::symlink(&set.files, at("loop")).unwrap();
        std::os::unix::fs::symlink(at("whole.png"), at("link.png")).unwrap();
        std::os::unix::fs::symlink(at("nothing.png"), at("dangling.png")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pipe.wav")).status();
        if !made.is_ok_and(|s| s.success()) {
            println!("skipped: no mkfifo here, so that no pipe stands in the folder");
            std::fs::write(at("pipe.wav"), b"").unwrap();
        }
    }
    let started = std::time::Instant::now();
    let report = set.index();
    // A generous bound: it took a few seconds; what it guards against is hanging on the pipe or the bomb.
    assert!(started.elapsed().as_secs() < 120);

    assert!(!reason(&report, "truncated.png").is_empty());
    assert!(reason(&report, "empty.wav").contains("0 bytes"), "{}", reason(&report, "empty.wav"));
    assert!(reason(&report, "bomb.png").contains("limit"), "{}", reason(&report, "bomb.png"));
    assert!(!reason(&report, "nan.csv").is_empty());
    assert!(!reason(&report, "pipe.wav").is_empty());
    assert!(reason(&report, "dangling.png").contains("cannot be looked at"));
    let skipped = |what: &str| report.skipped.iter().find(|s| s.reason.contains(what)).map_or(0, |s| s.n);
    assert_eq!((skipped(".exe"), skipped("link to a folder")), (1, 1), "{:?}", report.skipped);
    assert!(skipped("hidden") >= 1);
    assert_eq!(report.refused.len(), 6, "{:?}", report.refused);
    // 10 things, whole, 照片, the long text, the long sound; the sound that calls itself a picture and the link are copies.
    assert_eq!((report.n_new, report.n_copies), (expected_new - 1, 2), "{report:?}");
    assert!(set.has("照片 一.png") && set.has("two\nlines.png"));
    let long = set.library.item(set.id("recording.wav")).unwrap();
    assert!(long.n_segments >= 6, "{long:?}");

    let again = set.index();
    assert_eq!(again.refused.len(), 6, "what was refused is told again");
    assert_eq!((again.n_segments, again.n_new), (0, 0), "{again:?}");

    // Mended files are taken in, spoiled ones leave.
    std::fs::copy(at("pictures/000.png"), at("truncated.png")).unwrap();
    std::fs::write(at("照片 一.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
    let mended = set.index();
    assert_eq!((mended.n_copies, mended.n_removed, mended.refused.len()), (1, 1, 6), "{mended:?}");
    assert!(!set.has("照片 一.png"));
}

#[cfg(unix)]
#[test]
fn what_may_not_be_read_is_told_and_not_taken_for_deleted() {
    use std::os::unix::fs::PermissionsExt;
    let set = set(0..2);
    let locked = set.files.join("locked");
    std::fs::create_dir(&locked).unwrap();
    write_png(&locked.join("a.png"), 30);
    set.index();
    let id = set.id("locked/a.png");
    let mode = |mode| std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    if std::fs::read_dir(&locked).is_ok() {
        println!("skipped: this user may read everything");
        return mode(0o755);
    }
    let report =
        set.library.index(std::slice::from_ref(&set.files), &Default::default(), &chiasm_core::NoProgress, &Default::default());
    mode(0o755);
    let report = report.unwrap();
    assert!(reason(&report, "locked").contains("cannot be looked into"));
    assert_eq!(report.n_removed, 0);
    assert_eq!(set.id("locked/a.png"), id);
}
