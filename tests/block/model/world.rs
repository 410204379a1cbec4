//! A real psentry-block in a real namespace, which goes through a sequence beside the model of each of its backends.
//! Outcomes are awaited; after each step what stands is read and compared, at once, or after damage as soon as it is whole
//! again.
//!
//! | | |
//! |---|---|
//! | `process.rs` | how psentry-block starts and ends |
//! | `verdicts.rs` | verdicts, and what must be answered |
//! | `outcomes.rs` | what psentry-block says |
//! | `manual.rs` | what others do |
//! | `compare.rs` | what stands |

mod compare;
mod manual;
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
use psentry_records::{Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use super::damage::Setting;
use super::known::{Asked, Known, Listed, SLACK, Until, alike, is_over};
use super::steps::{Say, Step};
use crate::lab::{Host, Program, bin};

/// How long anything is waited for: more than it takes, and less than a sequence has to be made shorter.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ends sooner than this ends before others come: what a decision by hand is depends on what stands beside.
const SOON: Duration = Duration::from_secs(1);

/// Ten repairs within a minute would be a fight.
const REPAIRS: u32 = 8;

/// A namespace, used again and again.
pub struct Sandbox {
    host: Host,
    setting: Setting,
    path: String,
}

struct Daemon {
    program: Program,
    stdin: ChildStdin,
    told: Receiver<String>,
    /// How many repairs it may have made.
    repairs: u32,
    /// Something was damaged, and it may not have seen to it yet.
    disturbed: bool,
}

/// One backend, and what it is to hold.
struct Side {
    backend: &'static str,
    known: Known,
    /// What a kill left open: all that may stand of a scope.
    open: BTreeMap<Prefix, Vec<Option<Until>>>,
    /// What is remembered of what somebody changed while psentry-block was dead: should that not stand, it is put back.
    changed: BTreeMap<Prefix, Vec<Option<Until>>>,
    /// Whose release is still to be told, since others let them in.
    released: BTreeSet<Prefix>,
    /// What was about to end when psentry-block started: by the kernel's clock it may have, and then nobody tells.
    ending: BTreeSet<Prefix>,
}

/// One sequence on its way.
pub struct Run<'a> {
    sandbox: &'a Sandbox,
    state: tempfile::TempDir,
    daemon: Option<Daemon>,
    sides: Vec<Side>,
    number: u16,
    story: Vec<String>,
}

impl Sandbox {
    pub fn new(setting: Setting) -> Self {
        let host = Host::new_in_user_namespace();
        host.sh("ip address add 198.51.100.1/32 dev lo");
        let mut path = std::env::var("PATH").unwrap();
        if setting.legacy {
            host.sh(
                "mkdir /run/legacy; for name in iptables iptables-restore ip6tables ip6tables-restore; do
                 ln -s $(command -v $(echo $name | sed s/tables/tables-legacy/)) /run/legacy/$name; done",
            );
            path = format!("/run/legacy:{path}");
        }
        Sandbox { host, setting, path }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.env("PATH", &self.path);
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
             rm -f /run/hosts.deny";
        sandbox.sh(&format!("{}\n{clean}", if sandbox.setting.legacy { legacy } else { "" }));
        let side = |backend: &&'static str| Side {
            backend,
            known: Known::of(backend),
            open: BTreeMap::new(),
            changed: BTreeMap::new(),
            released: BTreeSet::new(),
            ending: BTreeSet::new(),
        };
        Run {
            sandbox,
            state: tempfile::tempdir().unwrap(),
            daemon: None,
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
            Step::End => self.settle(3 * SOON)?,
            Step::Kill => self.stop(Signal::SIGKILL)?,
            Step::Stop => self.stop(Signal::SIGTERM)?,
            Step::Unblock(scope) => self.unblock(scope)?,
            Step::Flush => self.flush()?,
            Step::Block(on, scope, seconds) => self.block(self.on(*on), scope, *seconds)?,
            Step::Damage(on, way) => {
                patience = PATIENCE;
                self.damage(self.on(*on), *way)?;
            }
            Step::Delete(on, scopes) => {
                patience = PATIENCE;
                self.delete(self.on(*on), scopes)?;
            }
            Step::Retime(on, scope, seconds) => {
                patience = PATIENCE;
                self.retime(self.on(*on), scope, *seconds)?;
            }
        }
        if self.daemon.is_some() { self.compare(patience) } else { Ok(()) }
    }

    /// The end of a sequence: whatever was done last, it stands.
    pub fn close(&mut self) -> Result<(), String> {
        self.story.push("the end".to_owned());
        self.running()?;
        self.compare(Duration::ZERO)
    }

    /// One of the backends.
    fn on(&self, number: usize) -> usize {
        number % self.sides.len()
    }

    fn side(&mut self, told: &OutcomeBody) -> Result<&mut Side, String> {
        let side = self.sides.iter_mut().find(|side| told.backend.as_deref() == Some(side.backend));
        side.ok_or_else(|| format!("{told:?}, and nobody asked"))
    }
}

fn outcome(line: &str) -> Result<Outcome, String> {
    match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => Ok(outcome),
        _ => Err(format!("no outcome: {line}")),
    }
}
