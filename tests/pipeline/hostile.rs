//! Bad input: no stage dies of it, nobody is blocked by it, each bad line is counted on standard error, and standard
//! error is not flooded.

use std::fs;
use std::process::{Command, Stdio};

use crate::lab::bin;

/// Feeds `input` to every stage that reads; gives what each printed on standard output and on standard error.
fn feed(input: &[u8]) -> Vec<(&'static str, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input");
    fs::write(&file, input).unwrap();
    [
        ("psentry-judge", &["--trigger", "1"][..]),
        ("psentry-block", &["--backend", "dry-run"]),
        ("psentry-show", &[]),
    ]
    .into_iter()
    .map(|(name, flags)| {
        let output = Command::new(bin(name))
            .args(flags)
            .stdin(Stdio::from(fs::File::open(&file).unwrap()))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {}: {error}", output.status);
        (name, String::from_utf8_lossy(&output.stdout).into_owned(), error)
    })
    .collect()
}

/// That every stage skips exactly `lines` lines, says so, and does nothing else.
fn skips(what: &str, input: &[u8], lines: usize) {
    for (name, output, error) in feed(input) {
        assert_eq!(output, "", "{name}, {what}");
        let plural = if lines == 1 { "line" } else { "lines" };
        assert!(
            error.contains(&format!("{lines} {plural} of the input skipped in all")),
            "{name}, {what}: {error}"
        );
        assert!(error.lines().count() <= 15, "{name} floods standard error with {what}: {error}");
        let clean = |c: char| matches!(c, ' '..='~' | '\n');
        assert!(error.chars().all(clean), "{name} prints {what} raw: {error:?}");
    }
}

/// Bytes that are as good as random and the same in every run (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

#[test]
fn ten_megabytes_of_noise() {
    let noise = noise(10_000_000);
    // A line of blanks is no line; noise of this length has some.
    let blank = |line: &&[u8]| line.trim_ascii().is_empty();
    let lines = noise.split(|&byte| byte == b'\n').filter(|line| !blank(line)).count();
    skips("noise", &noise, lines);
}

#[test]
fn one_line_of_a_megabyte() {
    skips("a long line", &[vec![b'x'; 1_000_000], b"\n".to_vec()].concat(), 1);
    let record =
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","probe":{},"x":""#;
    skips("a long record", format!("{record}{}\"}}\n", "y".repeat(1_000_000)).as_bytes(), 1);
}

#[test]
fn nuls_and_broken_text() {
    skips("NULs", &[0; 1000], 1);
    skips("NUL lines", &b"\0\n".repeat(1000), 1000);
    skips("no UTF-8", b"\xff\xfe\n\xc3\x28\n", 2);
}

#[test]
fn deeply_nested_json() {
    let nested = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    skips("nesting", nested.as_bytes(), 1);
    let inside = format!(
        r#"{{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":23,"probe":{{}},"x":{}{}}}"#,
        r#"{"a":"#.repeat(300),
        "1".to_owned() + &"}".repeat(300)
    );
    // An unknown field passes, whatever is in it, and costs no stack.
    for (name, output, error) in feed(inside.as_bytes()) {
        assert!(!error.contains("skipped"), "{name}: {error}");
        if name == "psentry-judge" {
            let verdict = output.contains(r#""action":"block","scope":"192.0.2.7/32""#);
            assert!(verdict && output.lines().count() == 1, "{output}");
        }
    }
}

/// What turns text around, breaks lines or is not seen must not reach the terminal of whoever reads the complaints.
#[test]
fn text_that_plays_tricks_on_a_terminal() {
    let tricks = ["\u{202e}", "\u{2028}", "\u{200b}", "\u{9b}2J", "\u{feff}", "\u{e0041}"];
    let record = |trick: &str| {
        format!(r#"{{"timestamp":"{trick}2026","event_type":"probe","src_ip":"192.0.2.7","probe":{{}}}}"#)
    };
    skips("tricks", tricks.map(record).join("\n").as_bytes(), tricks.len());
}

#[test]
fn records_that_say_something_impossible() {
    let good = [
        (r#""timestamp":"2026-11-22T15:04:05Z""#, "timestamp"),
        (r#""src_ip":"192.0.2.7""#, "src_ip"),
        (r#""dest_port":23"#, "dest_port"),
    ];
    let mut lines = Vec::new();
    for (field, bad) in [
        ("timestamp", r#""timestamp":"0000-01-01T00:00:00Z""#),
        ("timestamp", r#""timestamp":"1969-12-31T23:59:59Z""#),
        ("timestamp", r#""timestamp":"99999-01-01T00:00:00Z""#),
        ("timestamp", r#""timestamp":1700000000"#),
        ("timestamp", r#""timestamp":null"#),
        ("src_ip", r#""src_ip":"fe80::1%eth0""#),
        ("src_ip", r#""src_ip":"192.0.2.700""#),
        ("src_ip", r#""src_ip":"example.org""#),
        ("src_ip", r#""src_ip":3221225991"#),
        ("src_ip", r#""src_ip":["192.0.2.7"]"#),
        ("src_ip", r#""x":1"#),
        ("dest_port", r#""dest_port":-23"#),
        ("dest_port", r#""dest_port":65536"#),
        ("dest_port", r#""dest_port":"23""#),
        ("dest_port", r#""dest_port":23.5"#),
    ] {
        let fields: Vec<&str> =
            good.iter().map(|(text, name)| if *name == field { bad } else { text }).collect();
        lines.push(format!(r#"{{"event_type":"probe","probe":{{}},{}}}"#, fields.join(",")));
        lines.push(format!(
            r#"{{"event_type":"verdict","verdict":{{"action":"block","scope":"192.0.2.7","duration":-5}},{}}}"#,
            fields.join(",")
        ));
    }
    lines.push("{".into());
    lines.push("\"probe\"".into());
    lines.push(r#"{"event_type":"probe","event_type":"verdict"}"#.into());
    lines.push("\u{1b}]0;owned\u{7}\u{1b}[2J".into());
    let count = lines.len();
    skips("impossible records", lines.join("\n").as_bytes(), count);
}
