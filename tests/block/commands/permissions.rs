//! Whoever lacks a right is told what it takes, once, and nothing that he cannot know.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Whoever may not is told what it takes.
#[test]
fn without_rights_every_command_says_what_it_takes() {
    let lab = Lab::new();
    lab.guard.sh("nft add table inet psentry");
    for line in [
        &["list"][..],
        &["status"],
        &["why", SCANNER[0]],
        &["block", SCANNER[0]],
        &["unblock", SCANNER[0]],
        &["flush"],
        &["panic"],
    ] {
        let line = [&["unshare", "--user", bin("psentry-block")], line, &["--backend", "nft"]].concat();
        let (code, text) = told(&lab.guard.run(&line));
        assert_eq!(code, Some(77), "{line:?}: {text}");
        assert!(text.contains("CAP_NET_ADMIN"), "{line:?}: {text}");
    }
    // Said once, however much of it there is, and what could be read.
    let (code, text) = told(&lab.guard.run(&["unshare", "--user", bin("psentry-block"), "list", "--json"]));
    let right =
        text.contains("as root") && text.contains("CAP_NET_ADMIN") && text.contains("could not be asked");
    assert!(code == Some(77) && right && text.lines().count() == 1, "{text}");
    // Help is for everybody, and short; a wrong word is a mistake of the command line.
    for command in ["block", "status", "why", "panic", "resume"] {
        assert!(lab.guard.ok(&["unshare", "--user", bin("psentry-block"), command, "--help"]));
        assert_eq!(lab.guard.run(&[bin("psentry-block"), command, "--nonsense"]).status.code(), Some(64));
    }
}

/// Closed to whoever has no right beyond his own, be he its owner.
fn closed(name: &str, mode: u32) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join(name);
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = inner.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn whoever_cannot_see_whether_a_panic_holds_is_not_told_that_there_is_none() {
    let lab = Lab::new();
    lab.guard.sh("mkdir -m 0 /var/lib/psentry");
    let line = ["unshare", "--user", bin("psentry-block"), "resume"];
    let (code, text) = told(&lab.guard.run(&line));
    assert!(code == Some(77) && text.contains("cannot tell whether a panic holds"), "{text}");
    assert!(text.contains("run this as root") && !text.contains("there is no panic"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_not_its_draft() {
    let lab = Lab::new();
    let (_folder, directory) = closed("etc", 0o555);
    let file = format!("{directory}/hosts.deny");
    let flags = ["--backend", "hosts-deny", "--hosts-deny", &file];
    for line in [&["block", SCANNER[0]][..], &[]] {
        let line = [&["unshare", "--user", bin("psentry-block")], line, &flags].concat();
        let (code, text) = told(&lab.guard.run(&line));
        assert!(
            code == Some(77) && text.contains(&format!("{file}: cannot write a new one beside it")),
            "{text}"
        );
        assert!(!text.contains("at path") && text.contains("run this as root"), "{text}");
    }
}
