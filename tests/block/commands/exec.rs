//! Ending what a command of the administrator's blocked: the running psentry-block knows how, whoever asks it need not. And
//! what people read of it.

use super::*;

/// A blocker by nft and by a command that leaves a file for each address.
fn commanding(lab: &Lab, state: &tempfile::TempDir) -> (Program, std::process::ChildStdin) {
    let exec = ["--backend", "exec", "--exec", "touch /run/{addr}", "--exec-undo", "rm /run/{addr}"];
    asked(lab, state, &[&["--backend", "nft"][..], &exec].concat())
}

fn blocked(lab: &Lab, block: &mut Program, stdin: &mut std::process::ChildStdin, addr: &str) {
    let scope = format!("{addr}/32");
    say(stdin, Action::Block, &scope, Some(600));
    for _ in 0..2 {
        assert_eq!(result(block, &scope), OutcomeResult::Applied);
    }
    assert!(is_there(lab, addr));
}

fn is_there(lab: &Lab, addr: &str) -> bool {
    lab.guard.ok(&["test", "-e", &format!("/run/{addr}")])
}

#[test]
fn the_running_one_undoes_what_commands_did() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = commanding(&lab, &state);
    for n in 1..5 {
        blocked(&lab, &mut block, &mut stdin, &format!("198.18.0.{n}"));
    }
    let output = run(&lab, &state, &["unblock", "198.18.0.1"]);
    let results: Vec<_> =
        outcomes(&output).into_iter().map(|body| (body.backend.unwrap(), body.result)).collect();
    let both = ["nft", "exec"].map(|name| (name.to_owned(), OutcomeResult::Released));
    assert_eq!((output.status.code(), results), (Some(0), both.to_vec()), "{}", said(&output));
    assert!(!is_there(&lab, "198.18.0.1"));
    // Without --json it speaks to people.
    let line = |command: &str| format!("{} {command} {}", bin("psentry-block"), CONTROL.join(" "));
    let text = lab.guard.sh(&line("unblock 198.18.0.2"));
    assert!(
        text.contains("198.18.0.2/32 is released on nft") && text.contains("is released on exec"),
        "{text}"
    );
    assert!(!text.contains('{') && !is_there(&lab, "198.18.0.2"), "{text}");
    let text = lab.guard.sh(&line("unblock 198.18.0.2"));
    assert_eq!(text.trim(), "198.18.0.2/32 was not blocked on nft\n198.18.0.2/32 was not blocked on exec");
    let output = run(&lab, &state, &["flush"]);
    let ended: Vec<_> =
        outcomes(&output).into_iter().filter(|body| body.backend.as_deref() == Some("exec")).collect();
    assert_eq!((output.status.code(), ended.len()), (Some(0), 2), "{}", said(&output));
    assert!(!is_there(&lab, "198.18.0.3") && !is_there(&lab, "198.18.0.4"));
    // A new and shorter verdict counts alone.
    say(&mut stdin, Action::Block, "198.18.0.3/32", Some(60));
    for _ in 0..2 {
        let body = loop {
            let body = outcome(&mut block, "198.18.0.3/32").body;
            if body.result != OutcomeResult::Released {
                break body;
            }
        };
        let left = body.until.unwrap().since(psentry_records::Timestamp::now());
        assert!(body.result == OutcomeResult::Applied && left <= Duration::from_secs(61), "{body:?}");
    }
    let text = lab.guard.sh(&line("flush"));
    assert!(text.contains("198.18.0.3/32 is released on exec") && !text.contains('{'), "{text}");
    // Without one nobody knows how, unless he is told.
    blocked(&lab, &mut block, &mut stdin, "198.18.0.5");
    block.signal(Signal::SIGKILL);
    block.end();
    let (code, text) = told(&run(&lab, &state, &["unblock", "198.18.0.5"]));
    assert!(code == Some(71) && text.contains("--exec-undo has to say how to end it"), "{text}");
    assert!(is_there(&lab, "198.18.0.5"));
    let (code, text) = told(&run(&lab, &state, &["unblock", "198.18.0.5", "--exec-undo", "rm /run/{addr}"]));
    assert!(code == Some(0) && !is_there(&lab, "198.18.0.5"), "{text}");
}

#[test]
fn a_panic_has_the_running_one_undo_commands_and_names_what_stays() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = commanding(&lab, &state);
    blocked(&lab, &mut block, &mut stdin, "198.18.0.1");
    let (code, text) = told(&run(&lab, &state, &["panic"]));
    assert!(code == Some(0) && text.contains("everybody is released"), "{text}");
    wait_until("it is undone", || !is_there(&lab, "198.18.0.1"));
    assert!(run(&lab, &state, &["resume"]).status.success());
    blocked(&lab, &mut block, &mut stdin, "198.18.0.2");
    block.signal(Signal::SIGSTOP);
    let began = Instant::now();
    let (code, text) = told(&run(&lab, &state, &["panic"]));
    assert!(began.elapsed() < WAIT, "{:?}", began.elapsed());
    assert!(code == Some(71) && text.contains("psentry-block hangs; should it go on"), "{text}");
    assert!(text.contains("exec: 1 block of a command stays until a psentry-block runs"), "{text}");
    assert!(text.contains("not everybody could be released"), "{text}");
    block.signal(Signal::SIGCONT);
    wait_until("it is undone", || !is_there(&lab, "198.18.0.2"));
}

/// What it cannot undo is told as that, and not as a flag that is missing.
#[test]
fn an_undo_that_fails_is_what_is_told() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) =
        asked(&lab, &state, &["--backend", "exec", "--exec", "true", "--exec-undo", "test -e /run/may"]);
    for scope in ["198.18.0.1/32", "198.18.0.2/32"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    for (command, count) in [(&["unblock", "198.18.0.1"][..], 1), (&["flush"], 2)] {
        let output = run(&lab, &state, command);
        let failed = outcomes(&output).iter().filter(|body| body.result == OutcomeResult::Failed).count();
        assert_eq!((output.status.code(), failed), (Some(71), count), "{command:?}: {}", said(&output));
        assert!(said(&output).contains("exec: 'test' failed (exit status: 1)"), "{}", said(&output));
    }
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert!(code == Some(1) && text.contains("exec 0 of 0, 2 fail"), "{text}");
    lab.guard.sh("touch /run/may");
    wait_until("they are released", || run(&lab, &state, &["status"]).status.success());
}
