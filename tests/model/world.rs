//! A real psentry-block in a real namespace, which goes through a sequence beside the model. Outcomes are awaited; after
//! each step what stands is read and compared, at once, or after damage as soon as it is whole again.

mod hands;
mod hearing;
mod life;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use super::known::{Asked, Known, SLACK, Until, alike, is_over};
use super::steps::{Say, Step};
use crate::lab::{Host, Program, bin};

/// How long anything is waited for: more than it takes, and less than a sequence has to be made shorter.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ends sooner than this ends before others come: what a decision by hand is depends on what stands beside.
const SOON: Duration = Duration::from_secs(1);

/// Ten repairs within a minute would be a fight.
const REPAIRS: u32 = 6;

/// A namespace, used again and again.
pub struct Ground(Host);

impl Ground {
    pub fn new() -> Self {
        let host = Host::new_in_user_namespace();
        host.sh("ip address add 198.51.100.1/32 dev lo");
        Ground(host)
    }
}

struct Daemon {
    program: Program,
    stdin: ChildStdin,
    told: Receiver<String>,
    repairs: u32,
}

/// One sequence on its way.
pub struct Run<'a> {
    ground: &'a Ground,
    backend: &'static str,
    state: tempfile::TempDir,
    daemon: Option<Daemon>,
    known: Known,
    /// What a kill left open: all that may stand of a scope.
    open: BTreeMap<Prefix, Vec<Option<Until>>>,
    /// Whose release is still to be told, since others let them in.
    released: BTreeSet<Prefix>,
    /// What was about to end when psentry-block started: by the kernel's clock it may have, and then nobody tells.
    ending: BTreeSet<Prefix>,
    number: u16,
    story: Vec<String>,
}

impl<'a> Run<'a> {
    pub fn new(ground: &'a Ground, backend: &'static str) -> Self {
        ground
            .0
            .sh("nft flush ruleset; ipset destroy; ip route flush proto 158; ip -6 route flush proto 158;
             rm -f /run/hosts.deny");
        Run {
            ground,
            backend,
            state: tempfile::tempdir().unwrap(),
            daemon: None,
            known: Known::default(),
            open: BTreeMap::new(),
            released: BTreeSet::new(),
            ending: BTreeSet::new(),
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
            self.story.push(format!("it had more to say: {told:#?}\nand: {:#?}", program.end().2));
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
            Step::Damage(way) => {
                patience = PATIENCE;
                self.damage(*way)?;
            }
            Step::Delete(scopes) => {
                patience = PATIENCE;
                self.delete(scopes)?;
            }
            Step::Unblock(scope) => {
                self.settle(SOON)?;
                let scope: Prefix = scope.parse().unwrap();
                self.command(&["unblock", &scope.to_string()])?;
                self.let_in(&[scope])?;
            }
            Step::Flush => {
                self.settle(SOON)?;
                self.command(&["flush"])?;
                let all: Vec<Prefix> = self.known.blocks.keys().chain(self.open.keys()).copied().collect();
                self.let_in(&all)?;
            }
        }
        if self.daemon.is_some() { self.look(patience) } else { Ok(()) }
    }

    /// The end of a sequence: whatever was done last, it stands.
    pub fn close(&mut self) -> Result<(), String> {
        self.story.push("the end".to_owned());
        self.running()?;
        self.look(Duration::ZERO)
    }

    fn write(&mut self, lines: &str) -> Result<(), String> {
        let stdin = &mut self.daemon.as_mut().unwrap().stdin;
        stdin.write_all(lines.as_bytes()).map_err(|why| format!("it does not read: {why}"))
    }

    fn say(&mut self, say: &Say) -> Result<(), String> {
        self.running()?;
        let number = self.number();
        let (line, asked) = say.line(number);
        let before = Timestamp::now();
        let mut may = self.known.answers(&asked, before);
        self.write(&line)?;
        let told = self.answer(number)?.body;
        let after = Timestamp::now();
        may.extend(self.known.answers(&asked, after));
        if !may.contains(&told.result) {
            return Err(format!("{told:?}, and was to be one of {may:?}"));
        }
        self.known.take(&asked, after);
        Ok(())
    }

    fn lines(&mut self, says: &[Say]) -> (String, Vec<(u16, Asked)>) {
        let lines = says.iter().map(|say| {
            let number = self.number();
            let (line, asked) = say.line(number);
            (line, (number, asked))
        });
        lines.unzip()
    }

    fn burst(&mut self, says: &[Say]) -> Result<(), String> {
        self.running()?;
        let (lines, all) = self.lines(says);
        self.write(&lines)?;
        self.answers(&all, all.len())?;
        let now = Timestamp::now();
        all.iter().for_each(|(_, asked)| self.known.take(asked, now));
        Ok(())
    }

    /// Of each scope whatever the last confirmed verdict left may stand, or any later one.
    fn burst_and_kill(&mut self, says: &[Say], after: usize) -> Result<(), String> {
        self.running()?;
        let (lines, all) = self.lines(says);
        self.write(&lines)?;
        let mut told = self.answers(&all, after.min(all.len()))?;
        told.extend(self.end(Signal::SIGKILL)?);
        // What is answered without a backend was never done, and does not tell that anything before it was.
        let confirmed = told.iter().filter(|told| told.body.backend.is_some());
        let confirmed: BTreeSet<u16> = confirmed.filter_map(|told| told.common.dest_port).collect();
        let now = Timestamp::now();
        let mut known = self.known.clone();
        for (number, asked) in all {
            let before = known.blocks.get(&asked.scope).copied();
            known.take(&asked, now);
            let may = self.open.entry(asked.scope).or_insert_with(|| vec![before]);
            if confirmed.contains(&number) {
                may.clear();
            }
            may.push(known.blocks.get(&asked.scope).copied());
        }
        Ok(())
    }
}

fn outcome(line: &str) -> Result<Outcome, String> {
    match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => Ok(outcome),
        _ => Err(format!("no outcome: {line}")),
    }
}
