//! The control socket: its mode says who may ask, its engine who may change, and nobody who connects holds up verdicts.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use super::*;
use crate::lab::blocker::block_many;

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
    let (path, block_pid) = (folder.path().join("control"), block.pid());
    block.complaint("ready");
    let threads = || fs::read_dir(format!("/proc/{block_pid}/task")).unwrap().count();
    let quiet = threads();
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
    let line = [bin("psentry-block"), "status", "--json", "--control", path.to_str().unwrap()];
    let (code, text) = told(&lab.guard.run(&line));
    assert!(code == Some(0) && text.contains("\"wanted\":99"), "patience is rewarded: {text}");
    println!("{} threads, {quiet} before", threads());
    drop(silent);
    wait_until("their threads are gone", || threads() <= quiet);
}

/// Holds so many connections, each for a while, and asks on all of them; `reads` says whether it reads the answers.
const HOLD: &str = "
import socket, sys, threading, time
path, question, reads = sys.argv[1], sys.argv[2].encode(), sys.argv[3] == 'reads'
def hold():
    while True:
        try:
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            s.sendall(question)
            s.settimeout(3)
            while reads and s.recv(65536): pass
            if not reads: time.sleep(1.9)
        except OSError: pass
        s.close()
        time.sleep(0.01)
for _ in range(20): threading.Thread(target=hold).start()
";

/// However many of them connect, and whatever they do.
#[test]
fn who_may_only_ask_keeps_root_from_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("*** NOT TESTED: other users need root ***");
        return;
    }
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let (mut block, stdin) = reachable(&lab, &folder, &["--control-mode", "0666"]);
    let _stdin = block_many(&mut block, stdin, 5000);
    let path = folder.path().join("control");
    let path = path.to_str().unwrap();
    let list = "{\"ask\":\"list\"}\n";
    for (question, reads) in [("", "no"), ("{\"ask\":", "no"), (list, "no"), (list, "reads")] {
        let mut noise = std::process::Command::new("setpriv");
        noise.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "python3", "-c", HOLD]);
        let mut noise = Program::start(noise.args([path, question, reads]));
        std::thread::sleep(Duration::from_secs(1));
        for line in [&["block", "203.0.113.7"][..], &["unblock", "203.0.113.7"], &["status"]] {
            let began = Instant::now();
            let line = [&[bin("psentry-block")], line, &["--json", "--control", path]].concat();
            let (code, text) = told(&lab.guard.run(&line));
            let took = began.elapsed();
            println!("{question:?}, {reads}: {line:?} took {took:.1?}");
            assert!(code == Some(0) && took < WAIT, "{question:?}: {took:?}: {text}");
        }
        noise.signal(Signal::SIGKILL);
        noise.end();
    }
}

/// Root and the user of psentry-block change; whom else the file's mode lets in only asks.
#[test]
fn who_is_let_in_asks_and_only_root_and_its_own_user_change() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("*** NOT TESTED: other users need root ***");
        return;
    }
    // Outside of the lab, where there are other users; who blocks nobody needs no right.
    const OWN: &str = "65532";
    const OTHER: &str = "65534";
    let as_user = |uid: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", uid, "--regid", uid, "--clear-groups", bin("psentry-block")]);
        command
    };
    for (mode, lets_in) in [("0600", false), ("0660", false), ("0666", true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        nix::unistd::chown(folder.path(), Some(65532.into()), None).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut block = Program::start_fed(
            as_user(OWN).args(["--backend", "dry-run", "--control-mode", mode, "--control"]).arg(&path),
        );
        let _stdin = block.stdin();
        block.complaint("may be asked");
        let is = fs::metadata(&path).unwrap();
        assert_eq!((format!("{:04o}", is.mode() & 0o777), is.uid()), (mode.to_owned(), 65532));
        let run = |uid: &str, line: &[&str]| {
            told(&as_user(uid).args(line).args(["--json", "--control"]).arg(&path).output().unwrap())
        };
        for uid in ["0", OWN] {
            assert_eq!(run(uid, &["block", "203.0.113.7"]).0, Some(0), "{mode} {uid}");
            assert_eq!(run(uid, &["unblock", "203.0.113.7"]).0, Some(0), "{mode} {uid}");
            assert_eq!(run(uid, &["block", "203.0.113.7"]).0, Some(0), "{mode} {uid}");
        }
        for line in [&["status"][..], &["list"], &["why", "203.0.113.7"]] {
            let (code, text) = run(OTHER, line);
            if lets_in {
                assert!(code == Some(0) && text.contains("\"dry-run\""), "{line:?}: {text}");
            } else {
                assert!(code == Some(77) && text.contains("you may not ask this here"), "{line:?}: {text}");
            }
        }
        for line in [&["unblock", "203.0.113.7"][..], &["block", "203.0.113.8"], &["flush"]] {
            let (code, text) = run(OTHER, line);
            assert!(code == Some(77) && text.contains("you may not ask this here"), "{line:?}: {text}");
        }
        let (code, text) = run("0", &["status"]);
        assert!(code == Some(0) && text.contains("\"wanted\":1,\"standing\":1"), "nothing changed: {text}");
        assert!(block.terminate().0.success());
        assert!(!path.exists(), "the socket goes with its process");
    }
}

/// Commands ask the first one; the second one works, and says once that it cannot be asked.
#[test]
fn at_the_default_place_a_second_one_goes_on_without() {
    let lab = Lab::new();
    let (mut first, _stdin) = start(&lab, &["--backend", "nft"]);
    first.complaint("ready");
    let (mut second, mut stdin) = start(&lab, &["--backend", "route"]);
    second.complaint(
        "/run/psentry-block/control: another psentry-block listens there; this one cannot be asked",
    );
    say(&mut stdin, Action::Block, SCANNER[0], Some(600));
    assert_eq!(result(&mut second, "203.0.113.7/32"), OutcomeResult::Applied);
    let run = |line: &[&str]| lab.guard.run(&[&[bin("psentry-block")], line, &["--json"]].concat());
    let names =
        |output: &Output| outcomes(output).into_iter().map(|body| body.backend.unwrap()).collect::<Vec<_>>();
    assert_eq!(names(&run(&["block", "203.0.113.8"])), ["nft"]);
    assert_eq!(names(&run(&["list"])), ["nft"]);
    // What --backend names is what the running one has; it is said that it has no say in it.
    let output = run(&["unblock", "203.0.113.8", "--backend", "route"]);
    assert_eq!(names(&output), ["nft"]);
    assert!(said(&output).contains("--backend has no effect beside it"), "{}", said(&output));
    assert!(first.terminate().0.success() && second.terminate().0.success());
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
