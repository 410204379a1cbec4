//! Standard input to standard output: reads records, asks [`step`], writes verdicts. It decides nothing itself.

use std::io;

use psentry_records::Record;
use psentry_stage::{Complaints, Intake, Next, Output, Signals};

use crate::{Flags, JudgeError, Policy, State, step};

/// The whole program, after its flags are read.
///
/// # Errors
/// [`JudgeError`]; the end of the input and SIGTERM are no errors.
pub fn run(flags: Flags) -> Result<(), JudgeError> {
    let policy = Policy::from_flags(&flags)?;
    if flags.check {
        return Ok(());
    }
    let signals = Signals::catch().map_err(|errno| JudgeError::Signals(errno.into()))?;
    let mut intake = Intake::stdin(signals).map_err(JudgeError::Input)?;
    let mut output = Output::stdout().map_err(JudgeError::Output)?;
    let mut complaints = Complaints::new("psentry-judge");
    let mut state = State::new(policy.max_sources);
    loop {
        let item = match intake.next(None).map_err(JudgeError::Input)? {
            Next::Item(item) => item,
            Next::Nothing => continue,
            Next::End | Next::Stop => break,
            Next::ReaderGone => return Err(JudgeError::Output(io::ErrorKind::BrokenPipe.into())),
        };
        match item.record {
            Err(malformed) => complaints.skipped(item.line, &malformed),
            Ok(record) => {
                if flags.pass {
                    output.pass(intake.patience(), intake.raw()).map_err(JudgeError::Output)?;
                }
                let now = match &record {
                    Record::Probe(probe) => probe.common.timestamp,
                    _ => continue,
                };
                if let Some(verdict) = step(&mut state, &policy, &record, now) {
                    output.write(intake.patience(), &Record::Verdict(verdict)).map_err(JudgeError::Output)?;
                }
            }
        }
    }
    if state.evicted() > 0 {
        complaints
            .say(&format!("{} sources were forgotten for want of room; see --max-sources", state.evicted()));
    }
    Ok(())
}
