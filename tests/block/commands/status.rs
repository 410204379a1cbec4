//! `status` and `why` beside a psentry-block that has not done all yet, cannot do it, or has other flags than the command.

use std::fs;

use super::*;

/// What a command prints, where it counts lines of JSON.
fn status(lab: &Lab, state: &tempfile::TempDir) -> (Option<i32>, String) {
    told(&run(lab, state, &["status"]))
}

#[test]
fn what_waits_for_its_turn_is_wanted_and_is_not_there() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let slow = ["--backend", "exec", "--exec", "sleep 1.5", "--exec-undo", "true", "--exec-jobs", "1"];
    let (mut block, mut stdin) = asked(&lab, &state, &[&["--backend", "nft"][..], &slow].concat());
    let scopes: Vec<String> = (1..7).map(|n| format!("198.18.0.{n}/32")).collect();
    for scope in &scopes {
        say(&mut stdin, Action::Block, scope, Some(600));
    }
    assert_eq!(outcome(&mut block, "198.18.0.6/32").body.backend.as_deref(), Some("nft"));
    // It answers while a command runs; by now one is over.
    let by_command = |record: &Record| matches!(record, Record::Outcome(outcome) if outcome.body.backend.as_deref() == Some("exec"));
    block.record("what a command did", by_command);
    let (code, text) = status(&lab, &state);
    let exec = text.lines().find(|line| line.contains("\"exec\"")).unwrap();
    let field = |name: &str| {
        let rest = exec.split_once(&format!("\"{name}\":")).map_or("", |(_, rest)| rest);
        rest.split([',', '}']).next().and_then(|number| number.parse::<u64>().ok()).unwrap()
    };
    let (standing, queued) = (field("standing"), field("queued"));
    assert_eq!((code, field("wanted"), standing + queued), (Some(1), 6, 6), "{text}");
    assert!((1..6).contains(&standing) && !exec.contains("\"since\""), "{text}");
    assert!(text.contains(&format!("not everything is enforced: exec {standing} of 6, ")), "{text}");
    let nft = text.lines().find(|line| line.contains("\"nft\"")).unwrap();
    assert!(nft.contains("\"wanted\":6,\"standing\":6") && nft.contains("\"since\""), "{text}");
    wait_until("all is done", || status(&lab, &state).0 == Some(0));
    assert_eq!(status(&lab, &state).1.matches("\"since\"").count(), 2);
}

#[test]
fn why_tells_what_waits_and_what_lies_in_a_prefix() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let slow = ["--backend", "exec", "--exec", "sleep 1", "--exec-undo", "true", "--exec-jobs", "1"];
    let (mut block, mut stdin) = asked(&lab, &state, &[&["--backend", "nft"][..], &slow].concat());
    for scope in ["198.20.112.0/23", "198.18.0.1/32", "198.18.0.2/32", "198.18.0.3/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
    }
    assert_eq!(outcome(&mut block, "198.18.0.3/32").body.backend.as_deref(), Some("nft"));
    let waits = outcomes(&run(&lab, &state, &["why", "198.18.0.3"]));
    let waits = waits.iter().find(|body| body.backend.as_deref() == Some("exec")).unwrap();
    assert_eq!(
        (waits.result, waits.error.as_deref()),
        (OutcomeResult::Failed, Some("it waits for its turn"))
    );
    for (asked, scopes) in [
        ("198.18.0.0/15", &["198.18.0.1/32", "198.18.0.2/32", "198.18.0.3/32"][..]),
        ("198.20.113.0/24", &["198.20.112.0/23"]),
        ("198.20.112.0/23", &["198.20.112.0/23"]),
        ("198.20.113.7", &["198.20.112.0/23"]),
    ] {
        let mut found: Vec<String> =
            outcomes(&run(&lab, &state, &["why", asked])).iter().map(|body| body.scope.to_string()).collect();
        found.dedup();
        assert_eq!(found, scopes, "{asked}");
    }
    let (code, text) = told(&run(&lab, &state, &["why", "198.51.101.0/24"]));
    assert!(code == Some(1) && text.contains("nothing of 198.51.101.0/24 is blocked"), "{text}");
    let text = lab.guard.read(&[&[bin("psentry-block"), "why", "198.20.113.0/24"], &CONTROL[..]].concat());
    assert!(text.contains("it holds all of 198.20.113.0/24"), "{text}");
}

/// What the running one knows, and the command does not.
#[test]
fn why_asks_the_running_one_what_keeps_a_verdict_from_blocking() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let allow = state.path().join("allow");
    fs::write(&allow, "198.18.0.99\n").unwrap();
    let flags =
        ["--backend", "nft", "--brake", "1/min", "--max-blocks", "2", "--allow", allow.to_str().unwrap()];
    let (mut block, mut stdin) = asked(&lab, &state, &flags);
    block.complaint("may be asked");
    let why = |addr: &str| told(&run(&lab, &state, &["why", addr]));
    let (code, text) = why("198.18.0.98");
    assert!(code == Some(1) && text.ends_with("nothing keeps a verdict from blocking it\n"), "{text}");
    assert!(why("198.18.0.99").1.contains("nor can it be: 198.18.0.99/32 is an address that --allow names"));
    for (n, is) in [(1, OutcomeResult::Applied), (2, OutcomeResult::Applied), (3, OutcomeResult::Refused)] {
        let scope = format!("198.18.0.{n}/32");
        say(&mut stdin, Action::Block, &scope, Some(600));
        assert_eq!(result(&mut block, &scope), is, "{n}");
    }
    assert!(
        why("198.18.0.3").1.contains("nor can it be: it would be one block more than --max-blocks 2 allows")
    );
    // Lost, and so not all that was wanted is enforced.
    let (code, text) = status(&lab, &state);
    assert!(code == Some(1) && text.contains("\"enforced\":false"), "{text}");
    assert!(
        text.contains("\"full\":{\"max_blocks\":2,\"refused\":1}") && text.contains("there is no room"),
        "{text}"
    );
    // By verdicts, which make room; then the brake is at its limit.
    for (n, action, is) in [
        (1, Action::Unblock, OutcomeResult::Released),
        (4, Action::Block, OutcomeResult::Applied),
        (4, Action::Unblock, OutcomeResult::Released),
    ] {
        let scope = format!("198.18.0.{n}/32");
        say(&mut stdin, action, &scope, Some(600));
        assert_eq!(result(&mut block, &scope), is, "{n}");
    }
    for (n, is) in [(0, OutcomeResult::Applied), (1, OutcomeResult::Refused)] {
        let scope = format!("198.19.{n}.5/32");
        say_unproven(&mut stdin, &scope, 600);
        assert_eq!(result(&mut block, &scope), is, "{n}");
        say(&mut stdin, Action::Unblock, &scope, None);
        result(&mut block, &scope);
    }
    // Whoever is proven is blocked all the same.
    let text = why("198.19.1.5").1;
    assert!(
        text.contains("from blocking it now, but the brake holds: 1 unproven block was turned down"),
        "{text}"
    );
    assert!(run(&lab, &state, &["panic"]).status.success());
    assert!(why("198.18.0.5").1.contains("nor can it be: a panic holds"));
    drop(block.terminate());
    // A command alone knows that, too.
    assert!(why("198.18.0.5").1.contains("nor can it be: a panic holds"));
    assert!(run(&lab, &state, &["resume"]).status.success());
    // It cannot know whom another's flags leave alone, and says so.
    let output = run(&lab, &state, &["block", "198.18.0.99", "--for", "10m"]);
    assert!(
        output.status.success() && said(&output).contains("so the files of its --allow are not checked"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_memory_that_cannot_be_written_is_no_good_state() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    // A directory on a disk of its own, which is full.
    lab.guard.sh("mkdir /run/memory; mount -t tmpfs -o size=8k tmpfs /run/memory");
    lab.guard.run(&["sh", "-c", "head -c 100000 /dev/zero > /run/memory/full"]);
    let (mut block, mut stdin) =
        start(&lab, &[&CONTROL[..], &["--backend", "nft", "--state", "/run/memory"]].concat());
    for n in 1..4 {
        let scope = format!("198.18.0.{n}/32");
        say(&mut stdin, Action::Block, &scope, Some(600));
        assert_eq!(result(&mut block, &scope), OutcomeResult::Applied);
    }
    let (code, text) = status(&lab, &state);
    assert!(code == Some(1) && text.contains("\"enforced\":true,\"remembered\":false"), "{text}");
    assert!(text.contains("3 changes are not remembered") && text.contains("No space left"), "{text}");
    assert!(text.contains("does not outlive a reboot"), "{text}");
    lab.guard.sh("rm /run/memory/full");
    block.complaint("is remembered again");
    let (code, text) = status(&lab, &state);
    assert!(
        code == Some(0) && text.contains("\"remembered\":true") && !text.contains("\"memory\""),
        "{text}"
    );
}

/// Whoever has to repair it is told once, and that is no fight.
#[test]
fn a_damaged_section_is_told_once_and_waits_for_who_repairs_it() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let file = "/run/hosts.deny";
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "hosts-deny", "--hosts-deny", file]);
    for scope in ["198.18.0.1/32", "198.18.0.2/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    lab.guard.sh(&format!("cp {file} /run/good; sed -i '/END psentry/d' {file}"));
    block.complaint("has no end; repair it by hand");
    // As long as ten lists would take, and many more.
    wait_until("it has had time for a fight", {
        let began = Instant::now();
        move || began.elapsed() > Duration::from_secs(3)
    });
    let (code, text) = status(&lab, &state);
    assert!(code == Some(1) && text.contains("has no end"), "{text}");
    // Written by somebody who leaves one out: that is put back.
    lab.guard.sh(&format!("grep -v 198.18.0.2 /run/good > /run/new; mv /run/new {file}"));
    block.complaint("deleted 1 block; put back");
    wait_until("all of it is there", || status(&lab, &state).0 == Some(0));
    let (_, _, errors) = block.terminate();
    let said: Vec<&String> = block.said().iter().chain(&errors).collect();
    assert!(
        said.iter().all(|line| !line.contains("repair it by hand") && !line.contains("again and again")),
        "{said:?}"
    );
}

/// A backend that the command names and that the running one lacks enforces nothing.
#[test]
fn a_backend_that_nobody_keeps_is_not_enforced() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, _stdin) = asked(&lab, &state, &["--backend", "nft"]);
    block.complaint("may be asked");
    let (code, text) = told(&run(&lab, &state, &["status", "--backend", "route"]));
    assert!(code == Some(1) && text.contains("\"enforced\":false"), "{text}");
    assert!(text.contains("no psentry-block keeps route"), "{text}");
    let (code, text) = told(&run(&lab, &state, &["status", "--backend", "nft"]));
    assert!(code == Some(0) && text.contains("\"enforced\":true"), "{text}");
}

/// Nobody hangs or is dead there.
#[test]
fn where_no_socket_can_be_the_real_reason_is_told() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let too_long = format!("/run/{}", "x".repeat(200));
    for (path, why) in [
        (&*too_long, "File name too long"),
        (file.to_str().unwrap(), "this is not a socket"),
        (folder.path().to_str().unwrap(), "this is not a socket"),
    ] {
        for command in [&["status"][..], &["unblock", SCANNER[0]]] {
            let line = [&[bin("psentry-block")], command, &["--json", "--control", path]].concat();
            let (code, text) = told(&lab.guard.run(&line));
            assert!(code == Some(71) && text.contains(why), "{command:?}: {text}");
            assert!(!text.contains("hangs") && !text.contains("dead"), "{command:?}: {text}");
        }
    }
}
