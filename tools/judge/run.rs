//! Standard input to standard output: reads records, asks [`step`], writes verdicts. It decides nothing itself.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use psentry_records::{Item, OutcomeResult, Record, Timestamp, Verdict};
use psentry_stage::{Complaints, Intake, LastGood, Next, Output, Signals, speak};

use crate::decode::{Decoded, decode};
use crate::journal::Journal;
use crate::reload::WatchedFiles;
use crate::step::{complete, step, step_observation};
use crate::{Command, Flags, JudgeError, Policy, PolicyFlags, State, explain, replay, stats, summary};

/// The folder, in that of the state, of a judge that only observes.
pub(crate) const OBSERVED: &str = "observed";

/// How often the state is saved, files are checked for changes, and metrics are written.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// How many records may come between two looks at the clock, which is a system call.
const RECORDS_BETWEEN_CHECKS: u32 = 1024;

/// The whole program, after its flags are read.
///
/// # Errors
/// [`JudgeError`]; the end of the input and SIGTERM are no errors.
pub fn run(flags: Flags) -> Result<(), JudgeError> {
    match flags.command {
        Some(Command::Explain { address, records, state, print, policy }) => {
            explain::run(address, &records, state.as_deref(), &policy, print)
        }
        Some(Command::Replay { records, against, print, policy }) => {
            replay::run(&records, &policy, against.as_deref(), print.json)
        }
        None => {
            // A check is of the files themselves, and makes no copy.
            let last_good = LastGood::of_state(flags.state.as_deref().filter(|_| !flags.check));
            let (watched, policy) = WatchedFiles::start(&flags.policy, last_good)?;
            if flags.check { Ok(()) } else { Judge::start(flags, watched, policy)?.run() }
        }
    }
}

struct Judge {
    flags: PolicyFlags,
    pass: bool,
    metrics: Option<PathBuf>,
    policy: Policy,
    watched: WatchedFiles,
    state: State,
    journal: Option<Journal>,
    intake: Intake,
    output: Output,
    complaints: Complaints,
    verdicts: Vec<Verdict>,
    last_housekeeping: Instant,
    records_since_check: u32,
}

/// What becomes of a record that is read, where all of them are to be passed on.
#[derive(Clone, Copy)]
enum Passing {
    Passed,
    /// Its writer has it in the log already.
    Silent,
    /// It decides or confirms something, which only this judge may; what it is.
    Rejected(&'static str),
}

fn passing(decoded: &Decoded) -> Passing {
    let Decoded::Record(record) = decoded else { return Passing::Passed };
    match &**record {
        Record::Verdict(_) => Passing::Rejected("a verdict"),
        Record::Outcome(outcome) if outcome.body.result == OutcomeResult::Released => Passing::Silent,
        Record::Outcome(_) => Passing::Rejected("an outcome"),
        Record::Probe(_) | Record::Vouch(_) | Record::Stats(_) | Record::Other(_) => Passing::Passed,
    }
}

/// The folder of the state: one that only observes has its own, because what was only watched is no offence, and must not
/// be taken for a block that is in force.
fn state_folder(folder: &Path, observe: bool) -> PathBuf {
    if observe { folder.join(OBSERVED) } else { folder.to_owned() }
}

impl Judge {
    fn start(flags: Flags, watched: WatchedFiles, policy: Policy) -> Result<Self, JudgeError> {
        let signals = Signals::catch_requests(watched.any_named());
        let signals = signals.map_err(|errno| JudgeError::Signals(errno.into()))?;
        let intake = Intake::stdin(signals).map_err(JudgeError::Input)?;
        let output = Output::stdout("psentry-judge").map_err(JudgeError::Output)?;
        let mut complaints = Complaints::new("psentry-judge");
        let mut state = State::new(policy.max_sources);
        let mut journal = None;
        if let Some(folder) = &flags.state {
            let (opened, damage) = Journal::open(&state_folder(folder, policy.block.observe), &mut state)?;
            journal = Some(opened);
            if damage.torn {
                complaints.say("the last line of the state was cut off, and is dropped");
            }
            if damage.lines > 0 {
                complaints.say(&format!("{} lines of the state say nothing, and are dropped", damage.lines));
            }
        }
        Ok(Judge {
            flags: flags.policy,
            pass: flags.pass,
            metrics: flags.metrics,
            policy,
            watched,
            state,
            journal,
            intake,
            output,
            complaints,
            verdicts: Vec::new(),
            last_housekeeping: Instant::now(),
            records_since_check: 0,
        })
    }

    fn run(mut self) -> Result<(), JudgeError> {
        let folder = self.journal.as_ref().map(Journal::folder);
        speak(&format!("psentry-judge: {}", summary::ready(&self.policy, &self.state, folder)));
        let before = self.state.counters;
        let ended = self.tell_wrong(true).and_then(|()| self.judge());
        speak(&format!("psentry-judge: {}", summary::ended(&before, &self.state.counters)));
        // Whatever ended it, what is known is kept.
        if let Some(journal) = &mut self.journal {
            journal.compact(&mut self.state)?;
        }
        self.write_metrics();
        let evicted = self.state.sources.evicted();
        if evicted > 0 && self.journal.is_none() {
            let said = format!("{evicted} sources were forgotten for want of room; see --max-sources");
            self.complaints.say(&said);
        }
        ended
    }

    fn judge(&mut self) -> Result<(), JudgeError> {
        loop {
            match self.intake.next_as(Some(HOUSEKEEPING_INTERVAL), decode).map_err(JudgeError::Input)? {
                Next::Item(item) => self.take(item)?,
                Next::Nothing => self.on_wakeup()?,
                Next::End | Next::Stop => return Ok(()),
                Next::ReaderGone => return Err(JudgeError::Output(io::ErrorKind::BrokenPipe.into())),
            }
            self.records_since_check += 1;
            if self.records_since_check >= RECORDS_BETWEEN_CHECKS {
                self.records_since_check = 0;
                self.housekeep()?;
            }
        }
    }

    fn take(&mut self, item: Item<Decoded>) -> Result<(), JudgeError> {
        let decoded = match item.record {
            Err(malformed) => {
                self.state.counters.skipped += 1;
                self.complaints.skipped(item.line, &malformed);
                return Ok(());
            }
            Ok(decoded) => decoded,
        };
        let (intake, output) = (&self.intake, &mut self.output);
        match passing(&decoded) {
            // Whoever may write probes may accuse, and not command: what is passed on is believed as the judge's own word.
            Passing::Rejected(what) if self.pass => {
                self.state.counters.rejected += 1;
                self.complaints.say(&format!(
                    "line {}: {what} is not passed on: this judge did not write it",
                    item.line
                ));
            }
            Passing::Passed if self.pass => {
                output.pass(intake.patience(), intake.raw()).map_err(JudgeError::Output)?;
            }
            _ => {}
        }
        match decoded {
            Decoded::Record(record) => step(&mut self.state, &self.policy, &record, &mut self.verdicts),
            Decoded::Probe(seen) => {
                step_observation(&mut self.state, &self.policy, &seen, &mut self.verdicts);
                if !self.verdicts.is_empty()
                    && let Ok(line) = std::str::from_utf8(intake.raw())
                    && let Ok(Record::Probe(probe)) = Record::parse(line)
                {
                    self.verdicts.iter_mut().for_each(|verdict| complete(verdict, &probe));
                }
            }
        }
        for verdict in self.verdicts.drain(..) {
            output.write(intake.patience(), &Record::Verdict(verdict)).map_err(JudgeError::Output)?;
        }
        for warning in self.state.warnings.drain(..) {
            self.complaints.say(&warning);
        }
        if let Some(record) = stats::due(&mut self.state, self.policy.host.as_deref(), output.lost()) {
            output.write(intake.patience(), &record).map_err(JudgeError::Output)?;
        }
        Ok(())
    }

    /// Nothing came for a while, or a signal did.
    fn on_wakeup(&mut self) -> Result<(), JudgeError> {
        let requests = self.intake.requests();
        if requests.reload {
            self.watched.changed();
            self.reload()?;
        }
        if requests.report {
            self.write_counters()?;
        }
        self.housekeep()
    }

    fn write_counters(&mut self) -> Result<(), JudgeError> {
        // By this machine's clock, as a setting changes and a signal comes between records.
        let record =
            stats::record(&self.state, Timestamp::now(), self.policy.host.as_deref(), self.output.lost());
        self.output.write(self.intake.patience(), &record).map_err(JudgeError::Output)
    }

    /// Does what is too slow to be done for each record, at most once a second.
    fn housekeep(&mut self) -> Result<(), JudgeError> {
        if self.last_housekeeping.elapsed() < HOUSEKEEPING_INTERVAL {
            return Ok(());
        }
        self.last_housekeeping = Instant::now();
        if self.watched.changed() {
            self.reload()?;
        }
        // A full disk does not stop the judge; it is tried, and reported, again with the next round.
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.save(&mut self.state, self.last_housekeeping)
        {
            self.complaints.say(&error.to_string());
        }
        self.write_metrics();
        Ok(())
    }

    fn reload(&mut self) -> Result<(), JudgeError> {
        match self.watched.read(&self.flags) {
            Ok(policy) => {
                self.state.sources.resize(policy.max_sources);
                self.policy = policy;
                if self.watched.wrong().is_empty() {
                    self.complaints.say("the policy was read again");
                }
                self.tell_wrong(false)
            }
            // As long as it runs it has copies of all files.
            Err(error) => {
                self.complaints.say(&format!("{error}; the old policy stays"));
                Ok(())
            }
        }
    }

    /// Says which settings are wrong, so that copies count. The counters say so at once where these are others than before; and
    /// when a service starts, so that those of its predecessor count no more.
    fn tell_wrong(&mut self, starts: bool) -> Result<(), JudgeError> {
        for sentence in self.watched.wrong() {
            self.complaints.say(sentence);
        }
        let is_new = self.watched.wrong() != self.state.wrong_settings;
        self.state.wrong_settings = self.watched.wrong().to_vec();
        if is_new || starts && self.journal.is_some() { self.write_counters() } else { Ok(()) }
    }

    fn write_metrics(&mut self) {
        if let Some(path) = &self.metrics
            && let Err(error) = stats::write_metrics(&self.state, path)
        {
            self.complaints.say(&format!("--metrics: cannot write {}: {error}", path.display()));
        }
    }
}
