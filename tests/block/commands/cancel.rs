//! `unblock` and `flush` beside a running psentry-block: what it wants and has not blocked yet is not blocked any more.

use super::*;

/// A connection to the scanner's time server: as long as it stands he is not blocked.
fn time_server(lab: &Lab) -> Program {
    let session = Program::start_fed(
        lab.guard.command("socat").args(["-,ignoreeof=0", &format!("UDP4:{}:123", SCANNER[0])]),
    );
    wait_until("it is asked", || lab.guard.sh("ss -Hun state established").contains(SCANNER[0]));
    session
}

/// What waits for a logout, or failed, stands nowhere, and comes about later: unless somebody takes it back by hand.
#[test]
fn by_hand_what_waits_is_taken_back() {
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
    let mut backends: Vec<_> = outcomes(&output)
        .into_iter()
        .inspect(|body| assert_eq!(body.result, OutcomeResult::Released))
        .filter_map(|body| body.backend)
        .collect();
    backends.sort();
    assert_eq!(backends, ["exec", "nft"], "{}", said(&output));
    assert!(said(&output).contains("is not tried any more: 203.0.113.7/32 is 203.0.113.7, a time server"));
    let (code, text) = told(&run(&lab, &state, &["why", SCANNER[0]]));
    assert!(code == Some(1) && text.contains("is not blocked"), "{text}");
    drop(session);
    // Whatever was still to be tried would be in the stream before this.
    wait_until("he is gone", || !lab.guard.sh("ss -Hun state established").contains(SCANNER[0]));
    let (code, text) = told(&run(&lab, &state, &["status"]));
    assert!(code == Some(0) && !text.contains("\"wanted\":1"), "{text}");
    // Nothing to take back is nothing to be told.
    let again = run(&lab, &state, &["unblock", SCANNER[0]]);
    assert_eq!(outcomes(&again)[0].result, OutcomeResult::Already);
}

/// The same of all blocks at once.
#[test]
fn a_flush_takes_back_what_waits_and_what_fails() {
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let session = time_server(&lab);
    let command = format!("test -e {}/works", state.path().display());
    let backends = [
        "--backend",
        "nft",
        "--backend",
        "exec",
        "--exec",
        &command,
        "--exec-undo",
        "true",
        "--exec-timeout",
        "5s",
    ];
    let (mut block, mut stdin) = asked(&lab, &state, &backends);
    for (scope, results) in [
        (SCANNER[0], [OutcomeResult::Refused, OutcomeResult::Refused]),
        ("203.0.113.8", [OutcomeResult::Applied, OutcomeResult::Failed]),
    ] {
        say(&mut stdin, Action::Block, scope, Some(600));
        let scope = format!("{scope}/32");
        let mut is: Vec<_> = (0..2).map(|_| outcome(&mut block, &scope).body).collect();
        is.sort_by(|a, b| b.backend.cmp(&a.backend));
        assert_eq!(is.iter().map(|body| body.result).collect::<Vec<_>>(), results, "{is:?}");
    }
    let output = run(&lab, &state, &[&["flush"][..], &backends].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("given up, as it did not stand yet: 3 blocks"), "{}", said(&output));
    let released = |body: OutcomeBody| {
        assert_eq!(body.result, OutcomeResult::Released);
        (body.scope.to_string(), body.backend.unwrap())
    };
    let mut is: Vec<_> = outcomes(&output).into_iter().map(released).collect();
    is.sort();
    let all = ["203.0.113.7/32", "203.0.113.8/32"]
        .map(|scope| ["exec", "nft"].map(|name| (scope.to_owned(), name.to_owned())));
    assert_eq!(is, all.concat());
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

/// Whoever cannot be asked may go on trying, and only then a word is said of it.
#[test]
fn beside_one_that_cannot_be_asked_a_command_says_so() {
    let lab = Lab::new();
    let run = |line: &[&str]| {
        told(&lab.guard.run(&[&[bin("psentry-block")], line, &["--backend", "nft"]].concat()))
    };
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    let runs = format!("(process {}) cannot be asked here", block.pid());
    for line in [&["unblock", "203.0.113.8"][..], &["flush"]] {
        let (code, text) = run(line);
        assert!(code == Some(0) && text.contains(&runs), "{line:?}: {text}");
    }
    drop(stdin);
    block.end();
    for line in [&["unblock", "203.0.113.8"][..], &["flush"]] {
        let (code, text) = run(line);
        assert!(code == Some(0) && !text.contains("cannot be asked"), "{line:?}: {text}");
    }
}
