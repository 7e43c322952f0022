//! Texts and series: encodings, JSON lines, tables, NumPy arrays, and what is refused about them.
use std::path::Path;

use crate::common::{golden, golden_names, open, refusal, series, text};
use chiasm_core::{Media, Modality, Span};
use chiasm_media::{Cut, Limits, MediaError, decode, modality_of, read, read_npy_f32, segments, spans, write_npy_f32};

#[test]
fn encodings_are_found() {
    let chinese = "一只狗在草地上跑，两只猫在树下睡觉。\n";
    let utf16 = |big: bool| -> Vec<u8> {
        chinese.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
    };
    let gb = encoding_rs::GB18030.encode(chinese).0.into_owned();
    let kana = encoding_rs::SHIFT_JIS.encode("犬が草の上を走っている。").0.into_owned();
    for (bytes, expected, note) in [
        (chinese.as_bytes().to_vec(), chinese, None),
        ([b"\xef\xbb\xbf", chinese.as_bytes()].concat(), chinese, None),
        ([b"\xff\xfe".to_vec(), utf16(false)].concat(), chinese, Some("read as UTF-16LE")),
        ([b"\xfe\xff".to_vec(), utf16(true)].concat(), chinese, Some("read as UTF-16BE")),
        (gb, chinese, Some("not UTF-8: read as gb18030, guessed from its bytes")),
        (kana, "犬が草の上を走っている。", Some("not UTF-8: read as Shift_JIS, guessed from its bytes")),
        (
            b"caf\xe9 \xe0 la cr\xe8me, \xe9t\xe9".to_vec(),
            "café à la crème, été",
            Some("not UTF-8: read as windows-1252, guessed from its bytes"),
        ),
        (b"p\0l\0a\0i\0n\0".to_vec(), "plain", Some("not UTF-8: read as UTF-16LE, guessed from its bytes")),
        (
            b"a\0 \0d\0o\0g\0\xe9\0\xd8\xdc".to_vec(),
            "a dog\u{e9}\u{fffd}",
            Some("some bytes are not valid UTF-16LE and were replaced"),
        ),
    ] {
        let decoded = open("a.txt", &bytes).unwrap_or_else(|e| panic!("{expected}: {e}"));
        assert_eq!(decoded.metadata.notes.first().map(String::as_str), note, "{expected}");
        assert_eq!(text(decoded), expected);
    }
}

#[test]
fn what_is_no_text_is_refused() {
    for bytes in [&b"abc\0def"[..], b"\x01\x02\x03\x04\x05\x06 binary", b"\xef\xbb\xbf\0"] {
        assert!(refusal(open("a.txt", bytes)).contains("binary data under a text's name"), "{bytes:?}");
    }
    assert!(refusal(open("a.txt", b" \n\t ")).contains("only white space"));
    assert!(refusal(open("a.txt", b"%PDF-1.7 ...")).contains("is PDF"));
    assert!(refusal(open("a.txt", b"PK\x03\x04....")).contains("unpack it"));
    let limits = Limits { max_text_bytes: 10, ..Limits::default() };
    let message = refusal(decode(Path::new("a.md"), b"# A title of some length", &limits));
    assert_eq!(message, "is a text of 24 bytes, the limit is 10 bytes: split it, or raise `max_text_bytes`");
}

#[test]
fn five_megabytes_of_text_are_fine() {
    let story = "A dog ran over the grass. Then it slept.\n\n".repeat(5 << 20).split_at(5 << 20).0.to_owned();
    let media = open("a.txt", story.as_bytes()).unwrap().media;
    let parts = segments(&media, &Cut { max_segments: 20_000, ..Cut::default() });
    assert!((5_000..20_000).contains(&parts.len()), "{}", parts.len());
    let by_default = spans(&media, &Cut::default());
    assert_eq!((by_default.spans.len(), by_default.spans.len() + by_default.n_dropped), (2_000, parts.len()));
}

#[test]
fn json_lines_give_a_part_per_line() {
    let lines = "{\"id\": 1, \"caption\": \"a dog\\nruns\", \"title\": \"Rex\"}\n\n\"a bare string\"\r\n{\"name\": \"Tom\", \"kind\": \"cat\", \"n\": 3}\n";
    let decoded = open("a.jsonl", lines.as_bytes()).unwrap();
    assert_eq!(decoded.metadata.format, "JSON lines");
    let parts: Vec<String> = segments(&decoded.media, &Cut::default())
        .into_iter()
        .map(|(span, part)| {
            let (Span::Bytes { .. }, Media::Text(text)) = (span, part) else { panic!("a line is a span of bytes of text") };
            text
        })
        .collect();
    assert_eq!(parts, ["a dog runs Rex", "a bare string", "Tom cat"]);
    for (bytes, start) in [
        (&b"{\"text\": \"a\"}\n{\"text\": \n"[..], "line 2: `{\"text\": ` is not JSON"),
        (b"\n[1, 2]", "line 2: expected an object or a string"),
        (b"{\"n\": 3}", "line 1: holds no text"),
    ] {
        let message = refusal(open("a.jsonl", bytes));
        assert!(message.starts_with(start), "{message}");
    }
    assert!(refusal(open("a.ndjson", b"\n\n")).contains("no JSON line"));
}

#[test]
fn tables_with_and_without_header() {
    let with = series(open("a.csv", b"x, y,z\r\n1,2.5,-3e2\r\n4,5,6\r\n").unwrap());
    assert_eq!((with.n_channels, with.n_steps(), with.names), (3, 2, vec!["x".to_owned(), "y".to_owned(), "z".to_owned()]));
    assert_eq!(with.values, [1.0, 2.5, -300.0, 4.0, 5.0, 6.0]);
    let without = series(open("a.csv", b"1;2\n3;4\n").unwrap());
    assert_eq!((without.n_channels, without.names.len(), without.values), (2, 0, vec![1.0, 2.0, 3.0, 4.0]));
    let tabs = open("a.tsv", b"\xef\xbb\xbft\tv\n0\t1\n").unwrap();
    assert_eq!((tabs.metadata.format.as_str(), tabs.metadata.n_channels), ("TSV", Some(2)));
    assert_eq!(series(open("a.csv", b"\"a, b\"\n1\n2\n").unwrap()).names, ["a, b"]);
}

#[test]
fn cells_that_are_no_number_are_refused_by_place() {
    for (bytes, expected) in [
        (&b"x,y\n1,2\n3,NaN\n"[..], "row 3, column 2: `NaN` is no finite decimal number: fill the cell, or remove the row"),
        (b"x,y\n1,2\n,4\n", "row 3, column 1: `` is no finite"),
        (b"nan,1\n2,3\n", "row 1, column 1: `nan`"),
        (b"1,2\n1e999,2\n", "row 2, column 1: `1e999`"),
        (b"1,2\n3,4e38\n5,6e38", "row 2, column 2: `4e38`"),
        (b"file,caption\na.jpg,a dog\n", "row 2, column 1: `a.jpg`"),
        (b"x,y\n1,2\n3\n", "line 3: has 1 cells, the rows before have 2"),
        (b"x,y\n", "is empty: the table has no row of numbers"),
    ] {
        let message = refusal(open("a.csv", bytes));
        assert!(message.starts_with(expected), "{message}");
    }
    let limits = Limits { max_series_values: 5, ..Limits::default() };
    assert!(refusal(decode(Path::new("a.csv"), b"1,2\n3,4\n5,6\n7,8\n", &limits)).contains("the limit is 5 values"));
}

#[test]
fn numpy_arrays_of_every_type() {
    let mut n = 0;
    for name in golden_names().iter().filter(|name| name.starts_with("array_")) {
        let (values, shape) = read_npy_f32(&golden(name), 100).unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected: Vec<f32> = (0..12).map(|i| if i == 5 { 3.0 } else { i as f32 }).collect();
        assert_eq!(values, expected, "{name}");
        assert_eq!(shape, if name == "array_1d.npy" { vec![12] } else { vec![4, 3] }, "{name}");
        n += 1;
    }
    assert_eq!(n, 15);
    let s = series(open("x.npy", &golden("array_fortran.npy")).unwrap());
    assert_eq!((s.n_channels, s.n_steps()), (3, 4));
    assert_eq!(series(open("x", &golden("array_1d.npy")).unwrap()).n_channels, 1);
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn hostile_arrays_are_refused() {
    let header = |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    for (bytes, expected) in [
        (npy(&header("<f4", "(18446744073709551615, 2)"), &[0; 8]), "does not fit its 8 bytes"),
        (npy(&header("<f4", "(99999999999999999999999,)"), &[0; 8]), "is not understood"),
        (npy(&header("<f4", "(3,)"), &[0; 8]), "does not fit its 8 bytes"),
        (npy(&header("<f4", "(1,)"), &[0; 8]), "does not fit its 8 bytes"),
        (npy(&header("|O", "(1,)"), &[0; 8]), "type `|O`"),
        (npy(&header("<c16", "(1,)"), &[0; 16]), "type `<c16`"),
        (npy("__import__('os')", &[]), "is not understood"),
        (npy(&header("<f4", "(1,)"), &f32::INFINITY.to_le_bytes()), "holds inf at element 0"),
        (npy(&header("<f8", "(1,)"), &1e300f64.to_le_bytes()), "holds inf at element 0"),
        (npy(&header("<f2", "(1,)"), &0x7c01u16.to_le_bytes()), "holds NaN"),
        (npy(&header("<f4", "(0, 3)"), &[]), "is empty: the array has no element"),
        (npy(&header("<f4", "()"), &[0; 4]), "has 1 or 2 dimensions"),
        (npy(&header("<f4", "(1, 1, 1)"), &[0; 4]), "has 1 or 2 dimensions"),
        (b"\x93NUMPY\x09\0\0\0".to_vec(), "version 9"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff{}".to_vec(), "its header is cut off"),
        (b"\x93NUMPY".to_vec(), "magic"),
    ] {
        let message = refusal(open("a.npy", &bytes));
        assert!(message.contains(expected), "{message}");
    }
    assert!(refusal(open("a.npy", b"no array")).contains("expected a NumPy array"));
    let big = write_npy_f32(&[0.0; 11], &[11]);
    assert!(matches!(read_npy_f32(&big, 10), Err(MediaError::TooLarge { limit: 10, .. })));
}

#[test]
fn what_we_write_numpy_layouts_hold() {
    for shape in [&[][..], &[0], &[7], &[2, 3], &[2, 2, 2]] {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let bytes = write_npy_f32(&values, shape);
        assert_eq!((bytes.len() - 4 * n) % 64, 0, "data begins at a multiple of 64 bytes");
        assert_eq!(read_npy_f32(&bytes, 100).unwrap(), (values, shape.to_vec()));
    }
    assert_eq!(write_npy_f32(&[1.0, 2.0], &[2])[..128], golden_like_numpy()[..128]);
}

/// What numpy 2 writes for an f32 array of shape (2,).
fn golden_like_numpy() -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".to_vec();
    bytes.resize(127, b' ');
    bytes.push(b'\n');
    bytes
}

#[test]
fn extensions_announce_modalities() {
    for (name, expected) in [
        ("a.JPG", Some(Modality::Image)),
        ("b.tiff", Some(Modality::Image)),
        ("照片.heic", Some(Modality::Image)),
        ("a\nb.ogg", Some(Modality::Audio)),
        ("notes.md", Some(Modality::Text)),
        ("x.jsonl", Some(Modality::Text)),
        ("x.csv", Some(Modality::Series)),
        ("x.NPY", Some(Modality::Series)),
        ("x.json", None),
        (".png", None),
        ("README", None),
        ("x.png.part", None),
    ] {
        assert_eq!(modality_of(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn reading_is_bounded_and_takes_regular_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    std::fs::write(&path, b"0123456789").unwrap();
    assert_eq!(read(&path, &Limits::default()).unwrap(), b"0123456789");
    let few = Limits { max_file_bytes: 9, ..Limits::default() };
    assert_eq!(
        read(&path, &few).unwrap_err().to_string(),
        "has 10 bytes, the limit is 9 bytes: split it, or raise `max_file_bytes`"
    );
    assert_eq!(read(folder.path(), &few).unwrap_err().to_string(), "is a folder, expected a regular file");
    assert!(read(&folder.path().join("absent"), &few).unwrap_err().to_string().starts_with("cannot be read: No such file"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(read(&folder.path().join("link"), &Limits::default()).is_ok());
        assert_eq!(
            read(Path::new("/dev/zero"), &few).unwrap_err().to_string(),
            "is a pipe, socket or device, expected a regular file"
        );
    }
}
