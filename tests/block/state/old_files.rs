//! What psentry-block wrote before it had one journal is taken over, and removed: a journal for each backend, and a file of what
//! commands had blocked. The files in `old_files/` are such, as the version of then wrote them; those in `runtime/` without
//! `--state`.
//!
//! | | |
//! |---|---|
//! | 203.0.113.7 | for a hundred years; on the backend route for ever |
//! | 2001:db8:7::/64 | for ever |
//! | 203.0.113.9 | for five seconds; psentry-block was killed before they were over |
//! | 203.0.113.11 | released |
//! | 203.0.113.12 | for ever, but the command failed |
//! | 203.0.113.13 | for ever, on the backend route alone |

use super::*;

/// Copies what the version of then wrote.
fn copy(from: &str, to: &std::path::Path) {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/block/state/old_files").join(from);
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A command that writes down what it does, and fails for one address.
fn command(path: &str, what: &str) -> String {
    format!("sh -c 'echo {what} $0 >> {path}; test $0 != 203.0.113.12' {{addr}}")
}

#[test]
fn the_state_directory_of_an_earlier_version_is_taken_over() {
    let (state, ran) = (State::new(), tempfile::NamedTempFile::new().unwrap());
    copy("state", state.0.path());
    assert_eq!(names(state.0.path()).len(), 7);
    let path = ran.path().to_str().unwrap();
    let (blocks, undoes) = (command(path, "block"), command(path, "unblock"));
    let flags: Vec<&str> = BACKENDS.iter().flat_map(|name| ["--backend", name]).collect();
    let exec = ["--backend", "exec", "--exec", &blocks, "--exec-undo", &undoes];
    let flags = state.flags(&[&flags[..], &exec, &["--hosts-deny", "/run/hosts.deny"]].concat());
    let ran = || {
        let ran = std::fs::read_to_string(path).unwrap();
        let mut ran: Vec<String> = ran.lines().map(str::to_owned).collect();
        ran.sort_unstable();
        ran
    };
    let wanted = ["203.0.113.7/32", "203.0.113.12/32", "203.0.113.13/32", "2001:db8:7::/64"];

    let lab = Lab::new();
    // A command that only looks takes nothing over.
    let why =
        lab.guard.read(&[&[bin("psentry-block"), "why", "--json", "203.0.113.13"], &flags[..2]].concat());
    assert!(why.contains("it is wanted, and is not there"), "{why}");
    assert_eq!(names(state.0.path()).len(), 7);
    let (mut block, _stdin) = start(&lab, &flags);
    restored(&mut block);
    // The command was told an end for the one, did nothing for the other, and failed for the third; it is not told again whom it has
    // blocked for ever.
    assert_eq!(result(&mut block, "203.0.113.12/32"), OutcomeResult::Failed);
    wait_until("the commands have run", || {
        ["block 203.0.113.7", "block 203.0.113.12", "block 203.0.113.13", "unblock 203.0.113.9"]
            .iter()
            .all(|line| ran().iter().any(|ran| ran == line))
    });
    let is_wrong = |line: &String| line.contains("2001:db8") || line.ends_with(" 203.0.113.11");
    assert!(!ran().iter().any(is_wrong), "{:?}", ran());
    let check = |lab: &Lab| {
        let mut listed: Vec<(String, String)> = listed(lab, &flags[2..])
            .into_iter()
            .map(|(scope, backend, until)| {
                assert_eq!(until, None, "{scope} {backend}");
                (scope, backend)
            })
            .collect();
        let of = |backend: &&str| wanted.map(|scope| (scope.to_owned(), (*backend).to_owned()));
        let mut all: Vec<(String, String)> = BACKENDS.iter().chain(&["exec"]).flat_map(of).collect();
        all.retain(|(scope, backend)| backend != "exec" || scope != "203.0.113.12/32");
        // Hosts.deny and the like do not know of a command that failed, and the command does.
        listed.retain(|(scope, backend)| backend != "exec" || scope != "203.0.113.12/32");
        listed.sort_unstable();
        all.sort_unstable();
        assert_eq!(listed, all);
    };
    check(&lab);
    assert_eq!(names(state.0.path()), ["journal.jsonl"]);
    kill(&mut block);
    drop(lab);
    // From then on the journal alone knows all of it.
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(restored(&mut block), 4);
    check(&lab);
    assert_eq!(ran().iter().filter(|line| !line.contains(".12")).count(), 3, "{:?}", ran());
}

/// Without `--state` only what commands had done was written down, in the runtime directory or where `--exec-roll` said, and what
/// was in the kernel was wanted.
#[test]
fn what_commands_did_for_an_earlier_version_is_taken_over() {
    for place in ["/run/psentry-block/exec.jsonl", "/run/elsewhere"] {
        let (state, ran) = (State::new(), tempfile::NamedTempFile::new().unwrap());
        copy("runtime", state.0.path());
        let path = ran.path().to_str().unwrap();
        let (blocks, undoes) = (command(path, "block"), command(path, "unblock"));
        let lab = Lab::new();
        lab.guard.sh(&format!("mkdir /run/psentry-block; cp {}/exec.jsonl {place}", state.path()));
        lab.guard.sh("nft 'add table inet psentry
             add set inet psentry v4_32 { type ipv4_addr; flags timeout; size 262144; timeout 1h; }
             add element inet psentry v4_32 { 203.0.113.20 timeout 1h }'");
        let exec = ["--backend", "exec", "--exec", &blocks, "--exec-undo", &undoes, "--backend", "nft"];
        let roll = ["--exec-roll", place];
        let more = if place == "/run/elsewhere" { &roll[..] } else { &[] };
        let (mut block, _stdin) = start(&lab, &[&exec[..], more].concat());
        if !more.is_empty() {
            block.complaint("--exec-roll has no effect any more");
        }
        restored(&mut block);
        let scopes = |backend| -> Vec<String> {
            listed(&lab, &["--backend", backend]).into_iter().map(|(scope, ..)| scope).collect()
        };
        assert_eq!(scopes("nft"), ["203.0.113.7/32", "203.0.113.20/32"]);
        wait_until("the command has run", || scopes("exec") == ["203.0.113.7/32", "203.0.113.20/32"]);
        // Nobody wants the third one, for whom the command had failed, and may have blocked him nevertheless.
        let ran = || std::fs::read_to_string(path).unwrap();
        wait_until("the other one has run", || ran().contains("unblock 203.0.113.12"));
        assert!(!ran().contains("block 203.0.113.7"), "{}", ran());
        assert!(!lab.guard.ok(&["test", "-e", place]));
        assert_eq!(lab.guard.sh("ls /run/psentry-block | grep -v control"), "journal.jsonl\n");
    }
}
