//! Who is shut out: by the trap, by the blocker, by both; why, and the end of it.

use super::*;
use crate::lab::{GUARD, SCANNER};

#[test]
fn a_block_is_listed_explained_and_ended() {
    let lab = installed("MODE=block\n");
    let (mut block, _stdin) = blocker(&lab);
    assert_eq!(
        psentry(&lab, &["block", SCANNER[0], "--for", "2h", "--reason", "looks odd\u{1b}[2J"]).0,
        Some(0)
    );
    assert_eq!(psentry(&lab, &["block", "198.18.0.0/24"]).0, Some(0));
    let (code, text) = psentry(&lab, &["list"]);
    assert_eq!(code, Some(0));
    for part in [
        "198.18.0.0/24  blocked, no end, by rule by-hand",
        "203.0.113.7 ",
        "by rule by-hand: looks odd\\u{1b}[2J",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(" UTC by rule") || text.contains("until "), "{text}");
    assert_eq!(psentry(&lab, &["list", "--addresses"]).1, "198.18.0.0/24\n203.0.113.7\n");
    let (code, text) = psentry(&lab, &["why", "198.18.0.9"]);
    assert!(code == Some(0) && text.contains("to let it in: psentry unblock 198.18.0.0/24"), "{text}");
    let (code, text) = psentry(&lab, &["unblock", "198.18.0.9"]);
    assert!(code == Some(1) && text.contains("still shut out, as a part of 198.18.0.0/24"), "{text}");
    let (code, text) = psentry(&lab, &["unblock", "203.0.113.0/24"]);
    let part = "203.0.113.7 is still shut out, as a part of 203.0.113.0/24; to end that: psentry unblock 203.0.113.7\n";
    assert!(code == Some(1) && text.ends_with(part), "{text}");
    let (code, text) = psentry(&lab, &["unblock", SCANNER[0]]);
    assert!(code == Some(0) && text.contains("203.0.113.7/32 by nft: released"), "{text}");
    let (code, text) = psentry(&lab, &["unblock", SCANNER[0]]);
    assert!(code == Some(0) && text.starts_with("203.0.113.7 was not shut out\n"), "{text}");
    let (code, text) = psentry(&lab, &["why", SCANNER[0]]);
    assert!(
        code == Some(1) && text.contains("is not shut out") && text.contains("it was never seen"),
        "{text}"
    );
    let (code, text) = psentry(&lab, &["why", GUARD[0]]);
    assert!(code == Some(1) && text.contains("nor can it be"), "{text}");
    assert_eq!(psentry(&lab, &["unblock", "all"]).0, Some(0));
    assert!(psentry(&lab, &["list"]).1.starts_with("nobody is shut out\n"));
    block.terminate();
    // One that is gone is not taken for one that blocks nobody.
    let (code, text) = psentry(&lab, &["list"]);
    assert!(code == Some(1) && text.contains("neither psentry-trap nor psentry-block answers"), "{text}");
}

#[test]
fn what_a_dead_blocker_left_is_ended_all_the_same() {
    let lab = installed("MODE=block\nBLOCK=--backend nft\n");
    let (mut block, _stdin) = blocker(&lab);
    assert_eq!(psentry(&lab, &["block", "198.18.0.7"]).0, Some(0));
    block.signal(nix::sys::signal::Signal::SIGKILL);
    block.end();
    let (code, text) = psentry(&lab, &["unblock", "198.18.0.7"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!lab.guard.sh("nft list ruleset").contains("198.18.0.7"));
}

/// By a pipeline of trap and blocker, whose log has what was touched.
#[test]
fn a_quarantine_is_listed_with_what_was_touched_and_ended() {
    let lab = installed("MODE=block\n");
    let _service = lab.service(8088);
    let pipeline = format!(
        "{} --quarantine 10m | {} --pass --log /var/log/psentry/records.jsonl,1M,3",
        bin("psentry-trap"),
        bin("psentry-block")
    );
    let mut pipeline = Program::start(lab.guard.command("sh").args(["-c", &pipeline]));
    // Of trap and blocker, whichever is first.
    (0..2).for_each(|_| _ = pipeline.complaint(": ready: "));
    for (family, shown) in ["203.0.113.7", "2001:db8:7::/64"].into_iter().enumerate() {
        let (guard, scanner) = (GUARD[family], SCANNER[family]);
        assert!(lab.scanner.is_shut_out(guard, 445) && lab.scanner.is_shut_out(guard, 8088));
        wait_until("it is in the log", || psentry(&lab, &["list"]).1.contains("touched 445/tcp"));
        let (code, text) = psentry(&lab, &["list"]);
        assert!(code == Some(0) && text.starts_with(&format!("{shown}  trap, ")), "{text}");
        assert!(text.ends_with(" left, touched 445/tcp\n"), "{text}");
        let (code, text) = psentry(&lab, &["why", scanner]);
        let how = format!("to let it in: psentry unblock {shown}\n");
        assert!(
            code == Some(0) && text.contains(" left, touched 445/tcp\n") && text.contains(&how),
            "{text}"
        );
        let (_, text) = psentry(&lab, &["status"]);
        assert!(text.contains("1 in quarantine"), "{text}");
        let (code, text) = psentry(&lab, &["unblock", scanner]);
        assert!(
            code == Some(0) && text.contains(" by trap: released") && !text.contains("already"),
            "{text}"
        );
        assert!(lab.scanner.reaches(guard, 8088), "at once");
    }
    assert!(psentry(&lab, &["list"]).1.contains("nobody is shut out"));
    lab.innocent.is_shut_out(GUARD[0], 9);
    assert_eq!(psentry(&lab, &["unblock", "all"]).0, Some(0));
    assert!(lab.innocent.reaches(GUARD[0], 8088));
}

/// One that listens for no question is no trap of which nothing is known.
#[test]
fn a_trap_that_cannot_be_asked_is_not_well() {
    let lab = installed("MODE=block\n");
    let pipeline = format!(
        "{} --control /run/elsewhere | {} --pass --log /var/log/psentry/records.jsonl,1M,3",
        bin("psentry-trap"),
        bin("psentry-block")
    );
    let _pipeline = Program::start(lab.guard.command("sh").args(["-c", &pipeline]));
    let trap = || {
        let (_, text) = psentry(&lab, &["status"]);
        text.lines().find(|line| line.contains(" trap ")).unwrap_or_default().to_owned()
    };
    wait_until("it counts", || trap().contains("no psentry-trap answers"));
    // Beside a listener it would be a warning; without any sensor that answers nobody is noticed.
    assert!(trap().starts_with("CRITICAL "), "{}", trap());
    // Told where it is, psentry finds it.
    lab.guard.sh("echo TRAP=--control=/run/elsewhere >> /etc/psentry/psentry.conf");
    assert!(trap().ends_with("0 in quarantine"), "{}", trap());
}

#[test]
fn a_panic_is_in_the_status_until_it_is_over() {
    let lab = installed("MODE=block\n");
    let (mut block, _stdin) = blocker(&lab);
    assert_eq!(psentry(&lab, &["block", "198.18.0.7"]).0, Some(0));
    assert_eq!(psentry(&lab, &["panic", "--reason", "a test"]).0, Some(0));
    let panic = |text: &str| text.lines().find(|line| line.contains(" panic ")).unwrap().to_owned();
    let (code, text) = psentry(&lab, &["status"]);
    assert!(
        code == Some(2) && panic(&text).contains("(a test): nobody is shut out; to end it: psentry resume"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 10, "{text}");
    let (code, text) = psentry(&lab, &["why", "198.18.0.7"]);
    assert!(code == Some(1) && text.contains("a panic holds"), "{text}");
    let (_, text) = psentry(&lab, &["list"]);
    assert!(
        text.contains("nobody is shut out: a panic holds since ")
            && text.contains("; to end it: psentry resume\n"),
        "{text}"
    );
    assert_eq!(psentry(&lab, &["resume"]).0, Some(0));
    let (_, text) = psentry(&lab, &["status"]);
    assert!(panic(&text).starts_with("OK"), "{text}");
    let (_, json) = psentry(&lab, &["status", "--json"]);
    assert!(json.starts_with("{\"code\":2,\"parts\":{\"block\":{\"status\":\"OK\""), "{json}");
    block.terminate();
}

/// Across a rotation, and from a compressed file.
#[test]
fn the_log_is_printed_and_followed() {
    let lab = installed("MODE=block\n");
    let record = |n: u8, port: u16| {
        format!(
            "{{\"timestamp\":\"2026-11-22T15:04:0{n}Z\",\"event_type\":\"probe\",\"src_ip\":\"203.0.113.{n}\",\
                  \"dest_port\":{port},\"proto\":\"TCP\",\"probe\":{{\"kind\":\"syn\",\"payload\":\"\\u001b[2J\"}}}}"
        )
    };
    let log = "/var/log/psentry/records.jsonl";
    lab.guard.sh(&format!(
        "echo '{}' | gzip > {log}.2.gz; echo '{}' > {log}.1; echo '{}' > {log}",
        record(1, 21),
        record(2, 22),
        record(3, 23)
    ));
    let (code, text) = psentry(&lab, &["log", "--utc"]);
    let ports: Vec<&str> = text.lines().filter(|line| line.contains("touched")).collect();
    assert!(code == Some(0) && ports.len() == 3 && ports[0].starts_with("15:04:01 UTC probe"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(psentry(&lab, &["log", "203.0.113.2", "--json"]).1, record(2, 22) + "\n");
    let (_, text) = psentry(&lab, &["log", "--since", "2026-11-22T15:04:03Z"]);
    assert!(text.contains("23/tcp") && !text.contains("22/tcp"), "{text}");
    let mut follow = Program::start(lab.guard.command(bin("psentry")).args([
        "log",
        "-f",
        "--json",
        "--since",
        "2026-11-22T15:04:03Z",
    ]));
    follow.line("what is there", |line| line == record(3, 23));
    lab.guard.sh(&format!(
        "mv {log}.2.gz {log}.3.gz; mv {log}.1 {log}.2; mv {log} {log}.1; echo '{}' > {log}",
        record(4, 24)
    ));
    follow.line("what comes", |line| line == record(4, 24));
    lab.guard.sh(&format!("rm {log}"));
    let (code, text) = psentry(&lab, &["log"]);
    assert!(code == Some(74) && text.contains("cannot read /var/log/psentry/records.jsonl"), "{text}");
}

/// By the judge, with the installed policy and what the log has.
#[test]
fn explain_and_replay_read_the_installed_log() {
    let lab = installed("MODE=observe\nJUDGE=--trigger 1 --metrics /nowhere\n");
    lab.guard.sh("echo '[block]' > /etc/psentry/policy.toml
        echo '{\"timestamp\":\"2026-11-22T15:04:01Z\",\"event_type\":\"probe\",\"src_ip\":\"203.0.113.7\",\"dest_port\":23,\"proto\":\"TCP\",\"probe\":{\"kind\":\"connect\",\"handshake\":true}}' > /var/log/psentry/records.jsonl
        printf '[block]\\nduration = \"2h\"\\n' > /run/other.toml");
    let (code, text) = psentry(&lab, &["explain", SCANNER[0]]);
    assert!(code == Some(0) && text.contains("23/tcp"), "{text}");
    let (code, text) = psentry(&lab, &["replay", "/run/other.toml"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = psentry(&lab, &["replay", "/run/none.toml"]);
    assert_eq!(code, Some(78), "{text}");
}

#[test]
fn nothing_is_installed_is_unknown() {
    let lab = Lab::new();
    let (code, text) = psentry(&lab, &["status"]);
    assert!(code == Some(3) && text.starts_with("UNKNOWN") && text.contains("not installed"), "{text}");
}
