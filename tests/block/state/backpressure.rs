//! What waits: while every backend is busy the pipe holds it, where a kill does not reach it, and no backend waits for
//! another.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const MANY: u32 = 5000;

/// What a killed blocker may have read: what it lets wait, what is being done, what one read gives, and a line.
const IN_HAND: usize = 256 + 1 + 4096 / 100 + 1;

/// A command that never ends, whatever it is given.
const HANGS: [&str; 6] =
    ["--backend", "exec", "--exec", "sh -c 'exec sleep 600' {scope}", "--exec-timeout", "1h"];

/// Writes many verdicts into a pipe; how many were taken so far.
fn feed(pipe: std::io::PipeWriter) -> Arc<AtomicU32> {
    let (written, count) = (Arc::new(AtomicU32::new(0)), MANY);
    let told = Arc::clone(&written);
    std::thread::spawn(move || {
        let mut writer = Writer::new(pipe);
        for n in 0..count {
            let scope = format!("198.18.{}.{}", n / 250, n % 250).parse().unwrap();
            let body = VerdictBody { duration: Some(600), ..VerdictBody::new(Action::Block, scope) };
            let verdict = Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body });
            if writer.write(&verdict).is_err() {
                return;
            }
            told.store(n + 1, Ordering::Relaxed);
        }
    });
    written
}

fn fed(lab: &Lab, pipe: &std::io::PipeReader, flags: &[&str]) -> Program {
    let input = Stdio::from(pipe.try_clone().unwrap());
    let mut block = Program::start_piped(lab.guard.command(bin("psentry-block")).args(flags).stdin(input));
    block.read_output();
    block
}

fn applied(block: &mut Program, backend: &str) {
    block.record("applied", |record| match record {
        Record::Outcome(o) => {
            o.body.result == OutcomeResult::Applied && o.body.backend.as_deref() == Some(backend)
        }
        _ => false,
    });
}

#[test]
fn while_every_backend_is_busy_the_pipe_holds_the_rest() {
    let lab = Lab::new();
    let (pipe, writer) = std::io::pipe().unwrap();
    let mut block = fed(&lab, &pipe, &[&HANGS[..], &["--pass"]].concat());
    let written = feed(writer);
    // Until nothing more is taken for a while; without a bound all of it is.
    let (mut before, mut since) = (0, Instant::now());
    wait_until("nothing more is read", || {
        let now = written.load(Ordering::Relaxed);
        if std::mem::replace(&mut before, now) != now {
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(500)
    });
    block.signal(Signal::SIGKILL);
    let (_, output, _) = block.end();
    println!("{} of {MANY} verdicts read, {before} written", output.len());
    assert!(before < MANY, "the pipe holds no more");
    // It hangs, and yet it has read as much as it may.
    assert!((256..=IN_HAND).contains(&output.len()), "{} were read", output.len());
    // Whoever comes next, as systemd has it, finds all the rest in the pipe.
    let mut block = fed(&lab, &pipe, &["--backend", "nft"]);
    for _ in 0..MANY as usize - IN_HAND {
        applied(&mut block, "nft");
    }
    println!("{} applied at least", MANY as usize - IN_HAND);
}

#[test]
fn a_backend_that_hangs_holds_up_no_other() {
    let lab = Lab::new();
    let (pipe, writer) = std::io::pipe().unwrap();
    let mut block = fed(&lab, &pipe, &[&["--backend", "nft"], &HANGS[..]].concat());
    feed(writer);
    for _ in 0..MANY {
        applied(&mut block, "nft");
    }
}

/// Asked to stop, it takes what waits in the pipe nevertheless.
#[test]
fn asked_to_stop_it_takes_what_waits() {
    let lab = Lab::new();
    let (pipe, writer) = std::io::pipe().unwrap();
    let written = feed(writer);
    wait_until("the pipe is full", || written.load(Ordering::Relaxed) > 300);
    let mut block = fed(&lab, &pipe, &["--backend", "nft"]);
    drop(pipe);
    applied(&mut block, "nft");
    let (status, output, errors) = block.terminate();
    assert!(status.success(), "{errors:?}");
    let all = output.iter().filter(|line| line.contains("\"applied\"")).count() + 1;
    // The feeder wrote as long as somebody read.
    let written = written.load(Ordering::Relaxed) as usize;
    println!("{all} applied of {written} written");
    assert!(all + 600 >= written && all > 300, "{all} applied of {written} written");
}
