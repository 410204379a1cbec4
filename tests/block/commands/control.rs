//! The control socket: whoever may open it is asked nothing more, whoever may not gets nothing, and nobody who connects
//! holds up verdicts.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use super::*;

/// A blocker on the guard with its control socket where this test can reach it.
fn reachable(lab: &Lab, folder: &tempfile::TempDir, more: &[&str]) -> (Program, std::process::ChildStdin) {
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("control");
    let (mut block, stdin) =
        start(lab, &[&["--backend", "nft", "--control", path.to_str().unwrap()], more].concat());
    block.complaint("may be asked");
    (block, stdin)
}

fn ask(folder: &tempfile::TempDir, question: &[u8]) -> String {
    let mut stream = UnixStream::connect(folder.path().join("control")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may hang up before it has read all of it.
    let _ = stream.write_all(question);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn hostile_clients_hold_up_nobody() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, mut stdin) = reachable(&lab, &folder, &[]);
    let path = folder.path().join("control");
    assert!(ask(&folder, b"{\"ask\":\"status\"}\n").contains("\"backend\":\"nft\""));
    for noise in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", b"{\"ask\":\"everything\"}\n", b"{\"ask\":\"why\"}\n"] {
        assert!(ask(&folder, noise).contains("\"error\""), "{noise:?}");
    }
    // A line without an end.
    let answer = ask(&folder, &[b'x'; 1 << 20]);
    assert!(answer.is_empty() || answer.contains("bytes is no question"), "{answer}");
    // Many that say nothing, and some that ask and never read.
    let silent: Vec<UnixStream> = (0..50).filter_map(|_| UnixStream::connect(&path).ok()).collect();
    for mut stream in &silent[..4] {
        let _ = stream.write_all(b"{\"ask\":\"status\"}\n");
    }
    let began = Instant::now();
    for n in 1..100 {
        let scope = format!("198.18.0.{n}/32");
        say(&mut stdin, Action::Block, &scope, Some(600));
        assert_eq!(result(&mut block, &scope), OutcomeResult::Applied);
    }
    println!("99 verdicts one by one in {:.1?} beside {} clients", began.elapsed(), silent.len());
    let line = [bin("psentry-block"), "status", "--control", path.to_str().unwrap()];
    let (code, text) = told(&lab.guard.run(&line));
    assert!(code == Some(0) && text.contains("\"wanted\":99"), "patience is rewarded: {text}");
    let threads = || fs::read_dir(format!("/proc/{}/task", block.pid())).unwrap().count();
    println!("{} threads", threads());
    drop(silent);
    wait_until("their threads are gone", || threads() <= 4);
}

#[test]
fn the_mode_of_the_file_is_the_permission() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("control");
    for (mode, code) in [("0600", 77), ("0666", 0)] {
        let (mut block, _stdin) = reachable(&lab, &folder, &["--control-mode", mode]);
        let is = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(format!("{is:04o}"), mode);
        if nix::unistd::geteuid().is_root() {
            // Somebody else, outside of the lab, where there are other users.
            let output = std::process::Command::new("setpriv")
                .args(["--reuid", "65534", "--clear-groups", bin("psentry-block"), "status", "--control"])
                .arg(&path)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code), "{mode}: {}", said(&output));
        } else {
            eprintln!("*** NOT TESTED: another user needs root ***");
        }
        drop(block.terminate());
        assert!(!path.exists(), "the socket goes with its process");
    }
}

#[test]
fn a_living_ones_socket_is_not_taken_and_a_dead_ones_is() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("control");
    let flags = ["--backend", "nft", "--control", path.to_str().unwrap()];
    let (mut block, _stdin) = reachable(&lab, &folder, &[]);
    let (mut second, _) = start(&lab, &flags);
    let (status, _, errors) = second.end();
    assert_eq!(status.code(), Some(71), "{errors:?}");
    assert!(errors[0].contains("another psentry-block listens there"), "{errors:?}");
    // One that hangs lives.
    block.signal(Signal::SIGSTOP);
    let (mut second, _) = start(&lab, &flags);
    assert_eq!(second.end().0.code(), Some(71));
    block.signal(Signal::SIGKILL);
    block.end();
    assert!(path.exists());
    let (mut block, _stdin) = reachable(&lab, &folder, &[]);
    drop(block.terminate());
    fs::write(&path, "mine").unwrap();
    let (mut third, _) = start(&lab, &flags);
    let (status, _, errors) = third.end();
    assert_eq!(status.code(), Some(64), "{errors:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

/// While no verdict comes, and while the pipe is full of them.
#[test]
fn who_asks_is_answered_among_many_verdicts() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, stdin) = reachable(&lab, &folder, &[]);
    let feeder = std::thread::spawn(move || {
        let mut stdin = stdin;
        for n in 0..5000 {
            say(&mut stdin, Action::Block, &format!("198.18.{}.{}", n / 250, n % 250), Some(600));
        }
        stdin
    });
    let mut asked = 0;
    while !feeder.is_finished() {
        assert!(ask(&folder, b"{\"ask\":\"status\"}\n").contains("\"wanted\":"));
        asked += 1;
    }
    println!("asked {asked} times beside 5000 verdicts");
    let _stdin = feeder.join().unwrap();
    for _ in 0..5000 {
        let applied = |r: &Record| matches!(r, Record::Outcome(o) if o.body.result == OutcomeResult::Applied);
        block.record("applied", applied);
    }
}
