//! What is said of records of the past: `explain` and `replay`, of files plain and packed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{judge, name, probe, text};
use crate::lab::bin;

/// A month of records, as logrotate leaves them.
fn archive(folder: &Path) -> Vec<String> {
    let (plain, gz, zst) = (folder.join("a"), folder.join("b.gz"), folder.join("c.zst"));
    fs::write(&plain, probe("15:00:00", "192.0.2.7", 23) + "\n").unwrap();
    for (program, file, line) in [
        ("gzip", &gz, probe("15:00:01", "192.0.2.7", 445)),
        ("zstd", &zst, probe("15:00:02", "192.0.2.9", 23)),
    ] {
        let script = format!("printf '%s\\n' '{line}' | {program} -c >> {}", file.display());
        assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success(), "{program}");
    }
    [plain, gz, zst].iter().map(|path| name(path).to_owned()).collect()
}

#[test]
fn explain_tells_what_was_held_against_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut flags = ["explain", "192.0.2.7", "--json", "--records"].map(str::to_owned).to_vec();
    flags.extend(archive(folder.path()));
    let output = judge(&flags.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(
        lines[0].contains(r#""what":"connect 23/tcp, handshake""#) && lines[0].contains(r#""score":4.5"#),
        "{said}"
    );
    assert!(
        lines[1].contains("block 192.0.2.7/32, until 2026-11-22T16:00:01.000000Z, by sequential"),
        "{said}"
    );
    assert!(lines[2].contains(r#""undo":"psentry unblock 192.0.2.7""#), "{said}");
    assert!(
        lines[2].contains("By this policy it would be blocked, until 2026-11-22T16:00:01.000000Z."),
        "{said}"
    );
    for (address, answer) in
        [("192.0.2.9", "the evidence is not enough"), ("192.0.2.99", "nothing is held against it")]
    {
        let output = judge(&["explain", address], &probe("15:00:00", "192.0.2.9", 23));
        assert!(text(&output.stdout).contains(answer), "{}", text(&output.stdout));
    }
    let output = judge(&["explain", "192.0.2.9", "--records", "/nonexistent"], "");
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("--records: cannot read /nonexistent"), "{}", text(&output.stderr));
}

/// The judge takes the time from the records, so the order counts.
#[test]
fn the_files_of_a_rotated_log_are_read_from_the_oldest_on() {
    let folder = tempfile::tempdir().unwrap();
    for (file, at, port) in
        [("r.jsonl", "17:00:02", 21), ("r.jsonl.1", "17:00:01", 445), ("r.jsonl.10", "15:00:00", 23)]
    {
        fs::write(folder.path().join(file), probe(at, "192.0.2.7", port) + "\n").unwrap();
    }
    let script = format!(
        "{} explain 192.0.2.7 --json --records {}/r.jsonl*",
        bin("psentry-judge"),
        folder.path().display()
    );
    let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    for (line, port) in lines.iter().zip([23, 445, 21]) {
        assert!(line.contains(&format!("connect {port}/tcp")), "{said}");
    }
}

#[test]
fn explain_knows_who_was_released_and_who_is_only_watched() {
    let events = [probe("15:00:00", "192.0.2.7", 23), probe("15:00:01", "192.0.2.7", 445)].join("\n");
    let released = r#"{"timestamp":"2026-11-22T15:10:00Z","event_type":"outcome","outcome":{"action":"unblock","scope":"192.0.2.7/32","backend":"nft","result":"released"}}"#;
    let said = text(&judge(&["explain", "--json", "192.0.2.7"], &format!("{events}\n{released}\n")).stdout);
    assert!(
        said.contains(r#""what":"its block was released""#) && said.contains(r#""blocked":false"#),
        "{said}"
    );
    let said = text(&judge(&["explain", "192.0.2.7", "--observe", "--json"], &events).stdout);
    let want = "By this policy it would be convicted, until 2026-11-22T16:00:01.000000Z, and only watched.";
    assert!(said.contains(want) && !said.contains("undo"), "{said}");
    // What a judge that only observes remembers was never blocked.
    let folder = tempfile::tempdir().unwrap();
    judge(&["--observe", "--state", name(folder.path())], &events);
    let observed = folder.path().join("observed");
    let said = text(&judge(&["explain", "192.0.2.7", "--json", "--state", name(&observed)], "").stdout);
    assert!(said.contains(r#""watched":true"#), "{said}");
}

#[test]
fn explain_says_of_a_block_that_ended_that_it_ended() {
    let mut events =
        [("15:00:00", 23), ("15:00:01", 445)].map(|(at, port)| probe(at, "192.0.2.7", port)).to_vec();
    events.push(probe("17:00:00", "192.0.2.9", 23));
    let said = text(&judge(&["explain", "192.0.2.7"], &events.join("\n")).stdout);
    assert!(said.contains("It would not be blocked any more: that is over."), "{said}");
}

#[test]
fn explain_and_replay_are_tables_without_json() {
    let folder = tempfile::tempdir().unwrap();
    let files = archive(folder.path()).join(" ");
    for (command, want) in [
        (
            format!("explain 192.0.2.7 --records {files}"),
            "If it is blocked, this lets it in again: psentry unblock 192.0.2.7",
        ),
        (format!("replay --records {files}"), "blocked most"),
    ] {
        let said = text(&judge(&command.split(' ').collect::<Vec<_>>(), "").stdout);
        assert!(said.contains(want) && !said.contains("{\""), "{said}");
    }
}

#[test]
fn replay_tells_what_another_policy_would_have_done() {
    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new.toml"), folder.path().join("old.toml"));
    fs::write(&new, "[test]\ntrigger = 1\n[ignore]\nnetworks = [\"192.0.2.7\"]\n").unwrap();
    fs::write(&old, "").unwrap();
    let mut flags = vec!["replay", "--json", "--policy", name(&new), "--against", name(&old), "--records"];
    let files = archive(folder.path());
    flags.extend(files.iter().map(String::as_str));
    let output = judge(&flags, "");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let want = [
        r#""scope":"192.0.2.9/32","#,
        r#"{"new":null,"old":{"forever":false,"rule":"sequential","seconds":3600,"times":1},"scope":"192.0.2.7/32"}"#,
        r#""less":1,"more":1"#,
    ];
    let want: Vec<bool> = want.iter().map(|want| said.contains(want)).collect();
    assert!(want[1] && want[2] && said.contains(r#""scope":"192.0.2.9/32""#), "{said}");
}
