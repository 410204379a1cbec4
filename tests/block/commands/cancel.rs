//! `unblock` and `flush` of what is wanted and is not blocked yet: it is not blocked any more.

use super::*;

/// A connection to the scanner's time server: until it ends he is not blocked.
fn time_server(lab: &Lab) -> Program {
    let session = Program::start_fed(
        lab.guard.command("socat").args(["-,ignoreeof=0", &format!("UDP4:{}:123", SCANNER[0])]),
    );
    wait_until("it is asked", || lab.guard.sh("ss -Hun state established").contains(SCANNER[0]));
    session
}

/// What waits for a logout, or failed, is blocked nowhere, and comes about later: unless somebody unblocks it.
#[test]
fn what_waits_is_unblocked() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let session = time_server(&lab);
    let (mut block, mut stdin) = asked(
        &lab,
        &state,
        &["--backend", "nft", "--backend", "exec", "--exec", "false", "--exec-undo", "true"],
    );
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    let results = [result(&mut block, "203.0.113.7/32"), result(&mut block, "203.0.113.7/32")];
    assert_eq!(results, [OutcomeResult::Refused; 2]);
    // Nothing that may be done is missing.
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert_eq!((code, text.matches(r#""failing":0,"waiting":1"#).count()), (Some(0), 2), "{text}");
    let output = run(&lab, &state, &["unblock", SCANNER[0]]);
    let why = "it was never applied: 203.0.113.7/32 is 203.0.113.7, a time server";
    let mut backends: Vec<_> = outcomes(&output)
        .into_iter()
        .inspect(|body| assert_eq!(body.result, OutcomeResult::Released))
        .inspect(|body| assert!(body.error.as_ref().is_some_and(|error| error.starts_with(why)), "{body:?}"))
        .filter_map(|body| body.backend)
        .collect();
    backends.sort();
    assert_eq!(backends, ["exec", "nft"], "{}", said(&output));
    let (code, text) = told(&run(&lab, &state, &["why", SCANNER[0]]));
    assert!(code == Some(1) && text.contains("is not blocked"), "{text}");
    drop(session);
    // Whatever was still to be tried would be in the stream before this.
    wait_until("he is gone", || !lab.guard.sh("ss -Hun state established").contains(SCANNER[0]));
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert!(code == Some(0) && !text.contains("\"wanted\":1"), "{text}");
    // What is not wanted is not unblocked.
    let again = run(&lab, &state, &["unblock", SCANNER[0]]);
    assert!(outcomes(&again).iter().all(|body| body.result == OutcomeResult::Already));
    assert!(said(&again).contains("203.0.113.7/32 was not blocked"), "{}", said(&again));
}

/// Whoever releases an address hears that another block still holds it: it is no success, and says what would be one.
#[test]
fn who_is_unblocked_and_still_in_a_wider_block_is_not_released() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "nft", "--backend", "ipset"]);
    for scope in ["198.18.0.7/32", "198.18.0.0/24"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!([result(&mut block, scope), result(&mut block, scope)], [OutcomeResult::Applied; 2]);
    }
    let wider = "198.18.0.7/32 is still blocked by the block of 198.18.0.0/24 on nft, ipset; to release it: psentry-block \
                 unblock 198.18.0.0/24";
    // Once it is released, and once it was not blocked by itself.
    for result in [OutcomeResult::Released, OutcomeResult::Already] {
        let output = run(&lab, &state, &["unblock", "198.18.0.7"]);
        assert!(outcomes(&output).iter().all(|body| body.result == result), "{}", said(&output));
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).ends_with(&format!("psentry-block: {wider}\n")), "{}", said(&output));
    }
    // What blocks only a part is named as well.
    assert_eq!(run(&lab, &state, &["block", "198.18.0.7", "--for", "10m"]).status.code(), Some(0));
    let (code, text) = told(&run(&lab, &state, &["unblock", "198.18.0.0/24"]));
    assert!(
        code == Some(1) && text.contains("198.18.0.7/32, a part of 198.18.0.0/24, is still blocked"),
        "{text}"
    );
    assert_eq!(told(&run(&lab, &state, &["unblock", "198.18.0.7"])).0, Some(0));
}

/// The same of all blocks at once.
#[test]
fn a_flush_gives_up_what_waits_and_what_fails() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let session = time_server(&lab);
    let command = format!("test -e {}/works", state.path().display());
    let exec = ["--exec", &command, "--exec-undo", "true", "--exec-timeout", "5s"];
    let (mut block, mut stdin) =
        asked(&lab, &state, &[&["--backend", "nft", "--backend", "exec"][..], &exec].concat());
    for (scope, results) in [
        (SCANNER[0], [OutcomeResult::Refused, OutcomeResult::Refused]),
        ("203.0.113.8", [OutcomeResult::Applied, OutcomeResult::Failed]),
    ] {
        say(&mut stdin, Action::Block, scope, Some(600));
        let scope = format!("{scope}/32");
        let is = [outcome(&mut block, &scope).body, outcome(&mut block, &scope).body];
        assert_eq!(is.each_ref().map(|body| body.result), results, "{is:?}");
    }
    let output = run(&lab, &state, &["flush"]);
    assert!(output.status.success(), "{}", said(&output));
    let mut is: Vec<_> = outcomes(&output)
        .into_iter()
        .inspect(|body| assert_eq!(body.result, OutcomeResult::Released))
        .map(|body| {
            let never = body.error.is_some_and(|error| error.starts_with("it was never applied: "));
            (body.scope.to_string(), body.backend.unwrap(), never)
        })
        .collect();
    is.sort();
    // What a command that failed may have done was undone.
    let all = [("7", "exec", true), ("7", "nft", true), ("8", "exec", false), ("8", "nft", false)];
    let all = all.map(|(host, name, never)| (format!("203.0.113.{host}/32"), name.to_owned(), never));
    assert_eq!(is, all);
    // Nothing is left that could come about.
    let text = told(&run(&lab, &state, &["status"])).1;
    assert_eq!(text.matches(r#""wanted":0,"standing":0,"failing":0,"waiting":0"#).count(), 2, "{text}");
    std::fs::write(state.path().join("works"), "").unwrap();
    drop(session);
    wait_until("he is gone", || !lab.guard.sh("ss -Hun state established").contains(SCANNER[0]));
    // The next verdict counts alone.
    say(&mut stdin, Action::Block, SCANNER[0], Some(60));
    let until = loop {
        let body = outcome(&mut block, "203.0.113.7/32").body;
        match body.result {
            OutcomeResult::Applied => break body.until.unwrap(),
            other => assert!(matches!(other, OutcomeResult::Released | OutcomeResult::Refused), "{body:?}"),
        }
    };
    assert!(until <= psentry_records::Timestamp::now().plus(Duration::from_secs(60)));
}

/// Whoever flushes hears what could not be deleted, though nobody was blocked; and what stays is nobody else's doing.
#[test]
fn a_flush_says_what_it_could_not_delete() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = asked(&lab, &state, &["--backend", "ipset", "--backend", "nft"]);
    block.complaint("ready:");
    // A set that somebody else's rule matches cannot be destroyed, and psentry deletes no rule outside of the filter table.
    lab.guard.sh("iptables -t mangle -A INPUT -m set --match-set psentry4 src -j RETURN");
    for blocked in [0, 2] {
        for host in 0..blocked {
            let scope = format!("198.18.0.{host}/32");
            say(&mut stdin, Action::Block, &scope, Some(600));
            let is = [outcome(&mut block, &scope).body, outcome(&mut block, &scope).body];
            assert!(is.iter().all(|body| body.result == OutcomeResult::Applied), "{is:?}");
        }
        let output = run(&lab, &state, &["flush"]);
        assert_eq!(output.status.code(), Some(71), "{}", said(&output));
        let text = said(&output);
        assert!(
            text.contains("ipset: not every trace could be deleted: ") && !text.contains("nft"),
            "{text}"
        );
        assert_eq!(outcomes(&output).len(), 2 * blocked);
        assert!(!lab.guard.sh("nft list tables").contains("inet psentry"));
    }
    // Whom a verdict blocks meanwhile is blocked, and nobody had deleted him.
    let scope = "2001:db8:7::7/128";
    say(&mut stdin, Action::Block, scope, None);
    let is = [outcome(&mut block, scope).body, outcome(&mut block, scope).body];
    assert!(is.iter().all(|body| body.result == OutcomeResult::Applied), "{is:?}");
    std::thread::scope(|threads| {
        let flush = threads.spawn(|| run(&lab, &state, &["flush"]));
        wait_until("nft has nothing", || !lab.guard.sh("nft list tables").contains("inet psentry"));
        say(&mut stdin, Action::Block, scope, None);
        assert_eq!(flush.join().unwrap().status.code(), Some(71));
    });
    wait_until("it is blocked", || lab.guard.sh("ipset list").contains("2001:db8:7::7"));
    lab.guard.sh("iptables -t mangle -F INPUT");
    let (code, text) = told(&run(&lab, &state, &["flush"]));
    assert!(code == Some(0) && !text.contains("could not"), "{text}");
    assert_eq!(lab.guard.sh("ipset list -n"), "");
    let (_, _, errors) = block.terminate();
    let said: Vec<&String> = block.said().iter().chain(&errors).collect();
    assert!(said.iter().all(|line| !line.contains("put back")), "{said:?}");
}

/// A command makes nothing to release somebody, and leaves nothing behind.
#[test]
fn without_a_running_one_what_is_not_blocked_takes_nothing_to_release() {
    let lab = Lab::new();
    let before = lab.guard.sh("nft list ruleset; ipset save; ip route");
    for line in [&["unblock", SCANNER[0]][..], &["flush"], &["list"], &["panic"], &["resume"]] {
        let (code, text) = told(&lab.guard.run(&[&[bin("psentry-block")], line, &["--json"]].concat()));
        assert_eq!(code, Some(0), "{line:?}: {text}");
        assert_eq!(lab.guard.sh("nft list ruleset; ipset save; ip route"), before, "{line:?}");
    }
}

/// What each backend has is released by a command alone, and nothing of it is left.
#[test]
fn without_a_running_one_every_backend_is_asked() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let file = ["--hosts-deny", "/run/hosts.deny"];
    for name in ["nft", "iptables", "ipset", "route", "hosts-deny"] {
        for scope in ["203.0.113.7", "203.0.113.8", "2001:db8:7::/64"] {
            let line = [&["block", scope, "--backend", name, "--for", "1h"][..], &file].concat();
            let (code, text) = told(&run(&lab, &state, &line));
            assert_eq!(code, Some(0), "{name}: {text}");
        }
        let of = |output: &Output| {
            let bodies = outcomes(output).into_iter();
            bodies
                .map(|body| (body.scope.to_string(), body.backend.unwrap(), body.result))
                .collect::<Vec<_>>()
        };
        let is = |scope: &str, result| (scope.to_owned(), name.to_owned(), result);
        let listed = of(&run(&lab, &state, &[&["list"][..], &file].concat()));
        let all = ["203.0.113.7/32", "203.0.113.8/32", "2001:db8:7::/64"];
        assert_eq!(listed, all.map(|scope| is(scope, OutcomeResult::Already)));
        let (code, text) = told(&run(&lab, &state, &[&["status"][..], &file].concat()));
        assert!(code == Some(0) && text.contains("\"wanted\":3,\"standing\":3"), "{name}: {text}");
        let output = run(&lab, &state, &[&["unblock", "203.0.113.7"][..], &file].concat());
        assert_eq!(of(&output), [is(all[0], OutcomeResult::Released)], "{}", said(&output));
        let output = run(&lab, &state, &[&["flush"][..], &file].concat());
        assert_eq!(
            of(&output),
            all[1..].iter().map(|scope| is(scope, OutcomeResult::Released)).collect::<Vec<_>>()
        );
        let left =
            lab.guard.sh("nft list ruleset; ipset save; ip route; ip -6 route; cat /run/hosts.deny || true");
        assert!(!left.contains("203.0.113.8") && !left.to_lowercase().contains("psentry"), "{name}: {left}");
    }
}
