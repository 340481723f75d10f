//! Imports of the files that operators have: JSON in every layout, compressed or not, and files that hold no events.

use std::io::Write;
use std::process::Stdio;

use super::home::{Home, lines, path_str};
use super::support::event::signed;
use weir::nostr::Event;

fn events() -> Vec<Event> {
    (0..8).map(|n| signed(n % 3, 1, n, &[&["t", "{[\"\\"]], "}],\n\u{feff}{")).collect()
}

fn json(event: &Event) -> String {
    event.view().to_json()
}

fn pretty(event: &Event) -> String {
    let value: serde_json::Value = serde_json::from_str(&json(event)).expect("JSON");
    serde_json::to_string_pretty(&value).expect("JSON")
}

fn joined(events: &[Event], one: impl Fn(&Event) -> String, between: &str) -> String {
    events.iter().map(one).collect::<Vec<_>>().join(between)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn events_are_read_however_they_are_laid_out() {
    let events = events();
    let (all, expected) = (&events[..], lines(&events));
    let expected: Vec<_> = expected.lines().collect();
    let from_client = |event: &Event| format!("[\"EVENT\",{}]", json(event));
    let from_relay = |event: &Event| format!(" [ \"EVENT\" , \"s\" , {} ] ", json(event));
    let layouts = [
        ("lines", lines(all)),
        ("a byte order mark", format!("\u{feff}{}", lines(all))),
        ("two files with byte order marks", format!("\u{feff}{}\u{feff}{}", lines(&all[..3]), lines(&all[3..]))),
        ("CRLF", lines(all).replace('\n', "\r\n")),
        ("no line ends", joined(all, json, "")),
        ("an array", format!("[{}]", joined(all, json, ","))),
        ("an array on lines", format!("[\n{}\n]\n", joined(all, json, ",\n"))),
        ("an array that is pretty-printed", format!("[\n{}\n]", joined(all, pretty, ",\n"))),
        ("arrays of arrays", format!("[[{}],\n [{}]]", joined(&all[..3], json, ", "), joined(&all[3..], json, ","))),
        ("pretty-printed objects", joined(all, pretty, "\n")),
        ("pretty-printed objects without line ends", joined(all, pretty, "")),
        ("messages of clients", joined(all, from_client, "\n")),
        ("messages of relays", joined(all, from_relay, "\n")),
        ("an array of messages", format!("[{}]", joined(all, from_relay, ","))),
        (
            "all of them",
            [pretty(&all[0]), from_relay(&all[1]), format!("[{}]\n", joined(&all[2..], json, " "))].concat(),
        ),
    ];
    for (name, text) in layouts {
        let home = Home::new();
        let ran = home.run_with(&["import"], text.as_bytes());
        assert_eq!((ran.code, ran.count("stored"), ran.count("invalid")), (Some(0), 8, 0), "{name}: {ran:?}");
        assert_eq!(home.export(), expected, "{name}");
    }
}

#[test]
fn compressed_events_are_known_by_their_first_bytes() {
    let events = events();
    let (text, array) = (lines(&events), format!("\u{feff}[{}]", joined(&events, json, ",\n")));
    let (first, second) = text.split_at(text.len() / 2);
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 3).expect("memory");
    let inputs = [
        ("gzip", gzip(text.as_bytes())),
        ("gzip of several members", [gzip(first.as_bytes()), gzip(b""), gzip(second.as_bytes())].concat()),
        ("gzip of an array", gzip(array.as_bytes())),
        ("zstd", zstd(&text)),
        ("zstd of several frames", [zstd(first), zstd(second)].concat()),
        ("zstd of an array", zstd(&array)),
    ];
    for (name, input) in inputs {
        for from_file in [true, false] {
            let home = Home::new();
            let file = home.write("any.name", &input);
            let ran = if from_file { home.run(&["import", &file]) } else { home.run_with(&["import"], &input) };
            assert_eq!((ran.code, ran.count("stored"), ran.count("invalid")), (Some(0), 8, 0), "{name}: {ran:?}");
        }
    }
}

#[test]
fn a_file_without_an_event_fails_and_says_what_it_looks_like() {
    let home = Home::new();
    let utf_16: Vec<u8> = format!("\u{feff}{}", lines(&events())).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lmdb = [&[0; 16][..], &[0xde, 0xc0, 0xef, 0xbe], &[0; 4000]].concat();
    let no_event = |what| {
        format!(
            "weir: the input contains no event and looks like {what}; see weir import --help for the supported formats\n"
        )
    };
    let foreign = |what, advice| format!("weir: the input looks like {what}: {advice}\n");
    let dump = "export the events as JSON, one per line, with the program that wrote it";
    let inputs: [(&[u8], String); 13] = [
        (&utf_16, foreign("text in UTF-16", "convert it with iconv -f UTF-16 -t UTF-8")),
        (&utf_16[2..], foreign("text in UTF-16LE", "convert it with iconv -f UTF-16LE -t UTF-8")),
        (&lmdb, foreign("an LMDB database", dump)),
        (b"SQLite format 3\0\x10\0\x01\x01", foreign("an SQLite database", dump)),
        (b"BZh91AY&SY........", foreign("a bzip2 file", "use bzcat FILE | weir import")),
        (&gzip(&gzip(b"text")), foreign("a file that was compressed twice", "decompress it first")),
        (b"-- PostgreSQL database dump\n--\nSET x = 1;\n", no_event("a dump of SQL")),
        (b"<!DOCTYPE html><title>404</title>", no_event("an HTML page")),
        (b"{\"events\":[]}", no_event("JSON, but not of events")),
        (b"[\"EOSE\",\"s\"]\n", no_event("JSON, but not of events")),
        (b"id,pubkey\n1,2\n", no_event("text, but not JSON")),
        (&[0; 100_000], no_event("binary data")),
        (b" \n[\n]\n", format!("weir: {} is empty\n", home.path("input").display())),
    ];
    for (input, expected) in inputs {
        let ran = home.run(&["import", &home.write("input", input)]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(1), expected.as_str()), "{ran:?}");
        assert_eq!(ran.count("stored"), 0, "{ran:?}");
    }
    let ran = home.run_with(&["import"], b"");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "weir: the input is empty\n"), "an empty export, piped");
    assert_eq!(home.export(), Vec::<String>::new());
}

#[test]
fn compressed_data_that_is_damaged_fails_and_keeps_what_came_before() {
    let events: Vec<_> = (0..2000).map(|n| signed(n % 3, 1, n, &[], &n.to_string())).collect();
    let text = lines(&events);
    let compressed = [gzip(text.as_bytes()), zstd::encode_all(text.as_bytes(), 1).expect("memory")];
    for whole in compressed {
        let home = Home::new();
        let ran = home.run_with(&["import", "--no-verify"], &whole[..whole.len() / 2]);
        let stored = ran.count("stored");
        assert!(ran.code == Some(1) && stored > 0 && stored < 2000, "{ran:?}");
        let expected = format!(
            "weir: nothing from line {} on was imported; resume from there: cannot read the input: ",
            stored + 1
        );
        assert!(ran.err.starts_with(&expected), "{ran:?}");
        assert_eq!(home.export(), text.lines().take(stored as usize).collect::<Vec<_>>());
    }
    let home = Home::new();
    for broken in
        [&b"\x1f\x8b"[..], b"\x1f\x8b\x08\0garbage garbage", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfdgarbage garbage"]
    {
        let ran = home.run_with(&["import"], broken);
        assert!(ran.code == Some(1) && ran.err.starts_with("weir: nothing from line 1 on was imported"), "{ran:?}");
    }
    // Garbage after valid data is reported, and the valid data is kept.
    let ran = home.run_with(&["import", "--no-verify"], &[gzip(text.as_bytes()), b"garbage".to_vec()].concat());
    assert_eq!((ran.code, ran.count("stored")), (Some(1), 2000), "{ran:?}");
}

/// Imports a file; returns the exit code, the peak memory in MiB and the output.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, and returns its resource usage")]
fn run_measured(home: &Home, file: &str) -> (i32, i64, String) {
    let mut child = home.command(&["import", file]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
    let mut out = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut out).expect("a summary");
    let mut status = 0;
    // SAFETY: an all-zero rusage is valid; both outlive the call; the child is ours and is waited for here alone.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(
            libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage),
            child.id() as libc::pid_t
        );
        usage
    };
    (libc::WEXITSTATUS(status), usage.ru_maxrss >> 10, out)
}

#[test]
fn bombs_and_endless_values_take_bounded_memory_and_leave_the_events_beside_them() {
    let [first, last] = [signed(1, 1, 1, &[], "first"), signed(1, 1, 2, &[], "last")].map(|event| json(&event));
    let bombs: [(&str, &[u8], &str); 5] = [
        ("\n", &[0; 1 << 16], "\n"),
        ("\n", b"          ", "\n"),
        ("\n{\"content\":\"", b"xxxxxxxxxxxxxxxx", "\"}\n"),
        (",{\"tags\":[", b"[\"a\",\"b\"],", "[]]},"),
        ("\n", b"[[[[[[[[[[[[[[[[", "\n"),
    ];
    for (before, filling, after) in bombs {
        let home = Home::new();
        let path = home.path("bomb.gz");
        let file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        write!(encoder, "{first}{before}").expect("the disk has room");
        let filling = filling.repeat((1 << 16) / filling.len());
        for _ in 0..(200 << 20) / filling.len() {
            encoder.write_all(&filling).expect("the disk has room");
        }
        write!(encoder, "{after}{last}").expect("the disk has room");
        encoder.finish().expect("the disk has room").flush().expect("the disk has room");
        let (code, mib, out) = run_measured(&home, &path_str(&path));
        assert_eq!((code, out.contains("  stored: 2\n")), (0, true), "{before:?}: {out}");
        assert!(mib < 180, "{mib} MiB for {before:?}");
        assert_eq!(home.export(), [&first[..], &last]);
    }
}

#[test]
fn hostile_text_is_refused_by_its_line() {
    let home = Home::new();
    let good = json(&signed(1, 1, 1, &[], "good"));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let unfinished = "{\"id\":\"00\",\"tags\":[[\"e\",";
    let text =
        ["{", "\0\0\0", unfinished, &deep, "\u{fffe}", "[\"EVENT\"]", "[\"EVENT\",1,2,3]", "{}{]}", &good].join("\n");
    let ran = home.run_with(&["import", "--show-refused"], text.as_bytes());
    assert_eq!((ran.code, ran.count("stored")), (Some(0), 1), "{ran:?}");
    let refused: Vec<_> = ran.err.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    let expected = [1, 2, 3, 4, 5, 6, 7, 8, 8, 8].map(|line| format!("line {line}: invalid"));
    assert_eq!(refused, expected, "{ran:?}");
    home.assert_clean();
}

#[test]
fn a_filter_on_standard_input_may_begin_with_a_byte_order_mark() {
    let home = Home::new();
    home.hold(&events());
    assert_eq!(home.run_with(&["scan", "--count", "-"], b"\xef\xbb\xbf{\"kinds\":[1]}").good(), "8\n");
}
