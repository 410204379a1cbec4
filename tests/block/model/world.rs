//! A real psentry-block in a real namespace, which goes through a sequence beside the model. Outcomes are awaited; after each step
//! what is there is read and compared, at once, or after somebody else changed something as soon as it is put right.
//!
//! | | |
//! |---|---|
//! | `process.rs` | how psentry-block starts and ends |
//! | `verdicts.rs` | verdicts, and what must be answered |
//! | `outcomes.rs` | what psentry-block says |
//! | `commands.rs` | the commands of psentry-block |
//! | `compare.rs` | what is there |

mod commands;
mod compare;
mod outcomes;
mod process;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{Action, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use super::drift::{self, Drift, Setting};
use super::known::{Asked, Block, Known, Listed, SLACK, Until, alike, is_over};
use super::steps::{REFUSED, Say, Step};
use crate::lab::{Host, Iptables, Program, bin};

/// How long anything is waited for: more than it takes, and less than a sequence has to be made shorter.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ends soon.
const SOON: Duration = Duration::from_secs(3);

/// Ten repairs within a minute would be a fight.
const REPAIRS: u32 = 8;

/// A namespace, used again and again.
pub struct Sandbox {
    host: Host,
    setting: Setting,
    iptables: Option<Iptables>,
}

struct Daemon {
    program: Program,
    stdin: ChildStdin,
    told: Receiver<String>,
    /// How many repairs it may have made.
    repairs: u32,
}

/// One backend, as what psentry-block says of it is known.
struct Side {
    backend: &'static str,
    /// What it has, whose end is to be told.
    holds: BTreeMap<Prefix, Until>,
    /// What ended while psentry-block started: perhaps it is told.
    ending: BTreeMap<Prefix, Until>,
    /// What may be put back, for somebody deleted it.
    damaged: BTreeSet<Prefix>,
}

/// One sequence on its way.
pub struct Run<'a> {
    sandbox: &'a Sandbox,
    state: tempfile::TempDir,
    daemon: Option<Daemon>,
    known: Known,
    /// What a kill left open: all that a scope may be wanted as.
    open: BTreeMap<Prefix, Vec<Option<Block>>>,
    sides: Vec<Side>,
    number: u16,
    story: Vec<String>,
}

impl Sandbox {
    pub fn new(setting: Setting) -> Self {
        let host = Host::new_in_user_namespace();
        host.sh("ip address add 198.51.100.1/32 dev lo");
        let iptables = setting.legacy.then(|| Iptables::choose(&host, "legacy"));
        Sandbox { host, setting, iptables }
    }

    /// psentry-block.
    fn psentry(&self) -> Command {
        let mut command = self.host.command(bin("psentry-block"));
        command.envs(self.iptables.as_ref().map(|iptables| ("PATH", &iptables.own_path)));
        command
    }

    /// Another program.
    fn command(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.envs(self.iptables.as_ref().map(|iptables| ("PATH", &iptables.path)));
        command
    }

    /// Whatever becomes of it.
    fn sh(&self, script: &str) -> Output {
        self.command("sh").args(["-c", script]).stdin(Stdio::null()).output().unwrap()
    }
}

impl<'a> Run<'a> {
    pub fn new(sandbox: &'a Sandbox) -> Self {
        let legacy = "iptables -F; iptables -X; ip6tables -F; ip6tables -X";
        let clean = "nft flush ruleset; ipset destroy; ip route flush proto 158; ip -6 route flush proto 158;
             rm -rf /run/hosts.deny /run/exec; mkdir /run/exec";
        sandbox.sh(&format!("{}\n{clean}", if sandbox.setting.legacy { legacy } else { "" }));
        let side = |backend: &&'static str| Side {
            backend,
            holds: BTreeMap::new(),
            ending: BTreeMap::new(),
            damaged: BTreeSet::new(),
        };
        Run {
            sandbox,
            state: tempfile::tempdir().unwrap(),
            daemon: None,
            known: Known::default(),
            open: BTreeMap::new(),
            sides: sandbox.setting.backends.iter().map(side).collect(),
            number: 0,
            story: Vec::new(),
        }
    }

    /// What was done, as lines, and what psentry-block complained of.
    pub fn story(mut self) -> String {
        if let Some(Daemon { mut program, stdin, told, .. }) = self.daemon.take() {
            program.signal(Signal::SIGKILL);
            drop(stdin);
            let told: Vec<String> = told.iter().collect();
            // By this SIGKILL, unless it had ended before.
            let (status, _, errors) = program.end();
            self.story.push(format!("it had more to say: {told:#?}\nand: {errors:#?}\nand ended: {status}"));
        }
        self.story.join("\n")
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        self.story.push(format!("{} {step:?}", Timestamp::now()));
        let mut patience = Duration::ZERO;
        match step {
            Step::Say(say) => self.say(say)?,
            Step::Burst(says) => self.burst(says)?,
            Step::BurstAndKill(says, after) => self.burst_and_kill(says, *after)?,
            Step::End => self.settle(SOON)?,
            Step::Kill => self.stop(Signal::SIGKILL)?,
            Step::Stop => self.stop(Signal::SIGTERM)?,
            Step::Block(scope, seconds) => self.block(scope, *seconds)?,
            Step::Unblock(scope) => self.unblock(scope)?,
            Step::Flush => self.flush()?,
            Step::Damage(..) | Step::Delete(..) | Step::Retime(..) | Step::Add(..) => {
                patience = PATIENCE;
                self.drift(step)?;
            }
        }
        if self.daemon.is_some() { self.compare(patience) } else { Ok(()) }
    }

    /// The end of a sequence: whatever was done last, all is there that is to be there, and psentry-block says so.
    pub fn close(&mut self) -> Result<(), String> {
        self.story.push("the end".to_owned());
        self.running()?;
        self.compare(Duration::ZERO)?;
        self.become_enforced()
    }

    /// psentry-block says that all is there that is wanted.
    fn enforced(&self) -> Result<(), String> {
        let status = self.psentry(&["status"], &self.flags());
        let (told, error) =
            (String::from_utf8_lossy(&status.stdout), String::from_utf8_lossy(&status.stderr));
        if status.status.success() {
            Ok(())
        } else {
            Err(format!("status: {}: {told}{error}", status.status))
        }
    }

    /// The same, as soon as what somebody changed a moment ago is put right.
    fn become_enforced(&self) -> Result<(), String> {
        let began = Instant::now();
        while let Err(why) = self.enforced() {
            if began.elapsed() > PATIENCE {
                return Err(why);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Somebody else changes something.
    fn drift(&mut self, step: &Step) -> Result<(), String> {
        let on = |number: &usize| self.sides[number % self.sides.len()].backend;
        let drift = match step {
            Step::Damage(number, way) => drift::damage(on(number), *way),
            Step::Delete(number, scopes) => drift::delete(on(number), scopes, &self.known),
            // Before there is a journal, what is there is taken over.
            Step::Add(..) if !self.state.path().join("journal.jsonl").exists() => None,
            Step::Retime(number, scope, seconds) => drift::retime(
                on(number),
                scope.parse().unwrap(),
                *seconds,
                self.daemon.is_some(),
                &self.known,
            ),
            Step::Add(number, scope, unproven) => {
                drift::add(on(number), scope.parse().unwrap(), *unproven, &self.known)
            }
            _ => None,
        };
        let Some(Drift { command, repairs, is_there }) = drift else { return Ok(()) };
        if let Some(daemon) = &mut self.daemon {
            if daemon.repairs + repairs > REPAIRS {
                return Ok(());
            }
            daemon.repairs += repairs;
        }
        self.story.push(format!("    {command}"));
        for side in &mut self.sides {
            side.damaged = side.holds.keys().copied().collect();
        }
        let output = self.sandbox.sh(&command);
        if is_there && self.daemon.is_some() && !output.status.success() {
            return Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(())
    }

    /// Runs a command of psentry-block.
    fn psentry(&self, words: &[&str], flags: &[String]) -> Output {
        self.sandbox.psentry().args(words).arg("--json").args(flags).output().unwrap()
    }

    fn side(&mut self, backend: Option<&str>) -> Result<&mut Side, String> {
        let side = self.sides.iter_mut().find(|side| backend == Some(side.backend));
        side.ok_or_else(|| format!("{backend:?} says something, and is none of the backends"))
    }
}

fn outcome(line: &str) -> Result<Outcome, String> {
    match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => Ok(outcome),
        _ => Err(format!("no outcome: {line}")),
    }
}

fn outcomes(output: &Output) -> Result<Vec<Outcome>, String> {
    String::from_utf8_lossy(&output.stdout).lines().map(outcome).collect()
}
