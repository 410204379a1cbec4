//! `units/try` as a newcomer runs it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::lab::{GUARD, Lab, Program, bin, wait_until};

fn try_script(flags: &[&str]) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("units/try"));
    script.args(flags).stdin(Stdio::null()).env("NO_COLOR", "1");
    script
}

#[test]
fn the_demo_shows_the_scan_and_the_block() {
    // Before, so that nothing of what cargo says is taken for the story.
    build();
    let output = try_script(&["--demo"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{error}");
    for word in [
        "nmap found open: 22 80 443",
        "203.0.113.7 touched",
        "block 203.0.113.7/32 for 1h",
        "blocked  203.0.113.7/32 by nft",
        "before the block hit it: of the services",
        "nmap found open: nothing",
        "table inet psentry",
        "once more with psentry-trap",
        // Which ports nmap asks first is chance.
        "before the kernel blocked it: of the services",
        "had it blocked again",
        "without the veil: 22 80 443",
        "behind the veil: nothing",
        "an ordinary client got in after 1",
    ] {
        assert!(said.contains(word), "'{word}' is missing in:\n{said}\n{error}");
    }
    // What the programs say of themselves is no part of the story.
    for program in ["psentry-listen:", "psentry-trap:", "psentry-judge:", "psentry-block:", "/control"] {
        assert!(!said.contains(program) && !error.contains(program), "{said}\n{error}");
    }
}

/// What `units/try` would build.
fn build() {
    let root = env!("CARGO_MANIFEST_DIR");
    let built = Command::new("cargo")
        .args(["build", "--profile", "try", "--locked"])
        .current_dir(root)
        .status()
        .unwrap();
    assert!(built.success());
}

/// By this list `units/install` knows whether a program is newer than its sources.
#[test]
fn cargo_lists_the_sources_of_a_program_beside_it() {
    let root = env!("CARGO_MANIFEST_DIR");
    build();
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    let list = fs::read_to_string(format!("{target}/try/psentry-judge.d")).unwrap();
    let (program, sources) = list.trim_end().split_once(':').unwrap();
    assert!(program.ends_with("/try/psentry-judge") && !sources.contains('\n'), "{list}");
    for source in ["tools/judge/main.rs", "tools/judge/lib.rs", "tools/records/lib.rs"] {
        assert!(sources.split(' ').any(|path| path == format!("{root}/{source}")), "{source}: {list}");
    }
}

/// `units/try` on the guard, in a session of its own, as a terminal would have it; built before, for the guard has no
/// network to fetch anything from.
fn try_on_guard(lab: &Lab, flags: &str, ssh: &str) -> Program {
    Program::start(&mut try_command(lab, flags, ssh))
}

fn try_command(lab: &Lab, flags: &str, ssh: &str) -> Command {
    let root = env!("CARGO_MANIFEST_DIR");
    build();
    let mut command = lab.guard.command("setsid");
    command.arg(format!("{root}/units/try")).args(flags.split_whitespace());
    command.env("NO_COLOR", "1").env("SSH_CONNECTION", ssh);
    command
}

/// Ctrl-C, which a terminal makes an interrupt of every process of the session; gives what is said after it.
fn ctrl_c(script: &mut Program) -> String {
    killpg(Pid::from_raw(script.pid().try_into().unwrap()), Signal::SIGINT).unwrap();
    let (status, _, said) = script.end();
    assert!(status.success(), "{status}: {said:?}");
    said.concat()
}

fn listens(lab: &Lab, port: u16) -> bool {
    lab.guard.read(&["ss", "-Hltn"]).contains(&format!(":{port} "))
}

/// The scanner is said and blocked, who is logged in by ssh is left alone although sudo hides that, and Ctrl-C takes
/// every trace away.
#[test]
fn try_blocks_a_scan_and_a_ctrl_c_takes_every_trace_away() {
    let lab = Lab::new();
    let _sshd =
        Program::start(lab.guard.command("socat").args(["TCP6-LISTEN:22,ipv6only=0,fork", "SYSTEM:cat"]));
    wait_until("the ssh server listens", || listens(&lab, 22));
    let mut session = Program::start_fed(lab.innocent.command("nc").args(["-n", GUARD[0], "22"]));
    let mut typed = session.stdin();
    typed.write_all(b"logged in\n").unwrap();
    session.line("echo", |line| line == "logged in");
    let records = tempfile::tempdir().unwrap();
    let file = records.path().join("records.jsonl");
    let flags = format!("--tcp 2323,2324 --udp 6969 --records {}", file.display());
    let mut script = try_on_guard(&lab, &flags, "fe80::1%eth0 50000 fe80::2%eth0 22");
    let alone = script.complaint("Logged in here by ssh");
    assert!(alone.contains("left alone: 192.0.2.8."), "{alone}");
    wait_until("the decoys listen", || listens(&lab, 2324));
    for port in [2323, 2324] {
        lab.innocent.touch(GUARD[0], port);
    }
    wait_until("the trap is set", || lab.guard.ok(&["nft", "list", "table", "inet", "psentry_trap"]));
    lab.scanner.run(&["nmap", "-n", "-Pn", "-sN", "--max-retries", "0", "-p4444", GUARD[0]]);
    wait_until("it has told", || fs::read_to_string(&file).unwrap().contains(r#""kind":"null""#));
    lab.scanner.run(&["nmap", "-n", "-Pn", "-sT", "-p2323,2324", GUARD[0]]);
    script.complaint("blocked  203.0.113.7/32 by nft");
    assert!(lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
    assert!(ctrl_c(&mut script).contains("and so is what it blocked"));
    assert_eq!(lab.guard.sh("nft list ruleset"), "", "every trace is gone");
    let kept = fs::read_to_string(file).unwrap();
    let about = |kind: &str, whom: &str| kept.lines().any(|line| line.contains(kind) && line.contains(whom));
    assert!(about(r#""probe":{"#, "192.0.2.8"), "the innocent was seen");
    assert!(!about(r#""verdict":{"#, "192.0.2.8"), "and left alone");
    assert!(about(r#""result":"released""#, "203.0.113.7"), "{kept}");
}

/// For another psentry-block.
const VERDICT: &str = r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"verdict","src_ip":"192.0.2.77","verdict":{"action":"block","scope":"192.0.2.77/32"}}"#;

/// Where another psentry blocks, `units/try` only looks on, and all that was blocked stays blocked.
#[test]
fn try_leaves_the_blocks_of_another_psentry_alone() {
    let lab = Lab::new();
    let mut other = Program::start_fed(lab.guard.command(bin("psentry-block")).args(["--backend", "nft"]));
    let mut input = other.stdin();
    writeln!(input, "{VERDICT}").unwrap();
    other.line("outcome", |line| line.contains(r#""result":"applied""#));
    let mut script = try_on_guard(&lab, "--tcp 2323,2324 --udp 6969", "192.0.2.8 50000 192.0.2.1 22");
    script.complaint("Another psentry blocks here already");
    script.complaint("left alone: 192.0.2.8.");
    wait_until("the decoys listen", || listens(&lab, 2324));
    let before = lab.guard.sh("nft list ruleset");
    assert!(before.contains("192.0.2.77"), "{before}");
    lab.scanner.run(&["nmap", "-n", "-Pn", "-sT", "-p2323,2324", GUARD[0]]);
    script.complaint("block 203.0.113.7/32");
    assert!(ctrl_c(&mut script).contains("it blocked nobody"));
    assert_eq!(lab.guard.sh("nft list ruleset"), before);
}

/// Ctrl-\, kill -9 of the script, of all its processes, and of a program: nothing is left.
#[test]
fn try_leaves_nothing_behind_however_it_ends() {
    let lab = Lab::new();
    let tables = || lab.guard.sh("nft list tables | sort");
    for how in ["QUIT -- -", "KILL ", "KILL -- -", "psentry-trap", "psentry-block", "psentry-show"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = try_command(&lab, "--tcp 2323,2324 --udp 6969", "192.0.2.8 50000 192.0.2.1 22");
        let mut script = Program::start(command.env("TMPDIR", temporary.path()));
        script.complaint("Every port on which nothing listens is watched");
        wait_until("all of it is there", || {
            listens(&lab, 2324) && tables() == "table inet psentry\ntable inet psentry_trap\n"
        });
        lab.scanner.run(&["nmap", "-n", "-Pn", "-sT", "-p2323,2324", GUARD[0]]);
        script.complaint("blocked  203.0.113.7/32 by nft");
        if how.starts_with("psentry-") {
            // Each has the folder of its records in its environment.
            let kill = format!(
                "for process in /proc/[0-9]*; do
                     grep -qsF TMPDIR={} $process/environ && [ $(cat $process/comm) = {how} ] && kill -KILL ${{process#/proc/}} || true
                 done",
                temporary.path().display()
            );
            lab.guard.sh(&kill);
        } else {
            lab.guard.sh(&format!("kill -s {how}{}", script.pid()));
        }
        if how == "psentry-trap" {
            script.complaint("psentry-trap has ended: closed ports are not watched any more.");
            wait_until("its rules are gone", || tables() == "table inet psentry\n");
            lab.guard.sh(&format!("kill -s INT -- -{}", script.pid()));
        }
        wait_until(&format!("{how}: every trace is gone"), || {
            tables().is_empty()
                && !listens(&lab, 2324)
                && fs::read_dir(temporary.path()).unwrap().next().is_none()
        });
        let (status, _, said) = script.end();
        let well = status.success() && said.concat().contains("and so is what it blocked");
        assert_eq!(well, ["QUIT -- -", "psentry-trap"].contains(&how), "{how}: {status}: {said:?}");
    }
}

/// A psentry that blocks in another way is not asked to release anybody; and that its trap watches already is said.
#[test]
fn try_leaves_what_is_another_psentry_s_alone() {
    let lab = Lab::new();
    let mut other = Program::start_fed(lab.guard.command(bin("psentry-block")).args(["--backend", "route"]));
    let mut input = other.stdin();
    writeln!(input, "{VERDICT}").unwrap();
    other.line("outcome", |line| line.contains(r#""result":"applied""#));
    let mut trap = Program::start(&mut lab.guard.command(bin("psentry-trap")));
    trap.complaint("ready");
    let mut script = try_on_guard(&lab, "--tcp 2323,2324 --udp 6969", "192.0.2.8 50000 192.0.2.1 22");
    script.complaint("another psentry-trap does that already");
    wait_until("the decoys listen", || listens(&lab, 2324));
    assert!(ctrl_c(&mut script).contains("and so is what it blocked"));
    assert!(lab.guard.sh("ip route show type blackhole").contains("192.0.2.77"));
    assert_eq!(lab.guard.sh("nft list tables"), "table inet psentry_trap\n");
}

/// sudo hides a cargo that only its user has: then what was built before will do, and else it is said what to do.
#[test]
fn try_without_cargo_takes_what_was_built_before() {
    let folder = tempfile::tempdir().unwrap();
    let (path, built) = (folder.path().join("bin"), folder.path().join("try"));
    fs::create_dir(&path).unwrap();
    for program in ["env", "bash", "dirname", "id", "cat", "rm", "mktemp", "sort", "mkfifo", "setsid"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        symlink(String::from_utf8(found.stdout).unwrap().trim(), path.join(program)).unwrap();
    }
    let run = || {
        let mut script = try_script(&["--dry-run", "--tcp", "none"]);
        let output = script.env("PATH", &path).env("CARGO_TARGET_DIR", folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = run();
    assert_eq!(code, Some(69), "{error}");
    assert!(error.contains("cargo is missing") && error.contains("without sudo"), "{error}");
    fs::create_dir(&built).unwrap();
    for program in ["psentry-listen", "psentry-trap", "psentry-judge", "psentry-block", "psentry-show"] {
        symlink(bin(program), built.join(program)).unwrap();
    }
    // As far as the listener, which has no such port.
    let (code, error) = run();
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains(&format!("what was built before: {}", built.display())), "{error}");
}
