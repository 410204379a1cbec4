//! What psentry-block says: answers to verdicts, and what nobody asked for, which the model has to know the reason of.

use super::*;

impl Run<'_> {
    /// Awaits so many of these answers, in whatever order they come.
    pub(super) fn answers(&mut self, all: &[(u16, Asked)], count: usize) -> Result<Vec<Outcome>, String> {
        let mut waiting: BTreeSet<u16> = all.iter().map(|(number, _)| *number).collect();
        let mut answered = Vec::new();
        while answered.len() < count {
            let told = self.hear()?;
            if !told.common.dest_port.is_some_and(|number| waiting.remove(&number)) {
                self.take_in(&told.body)?;
            } else if told.body.result == OutcomeResult::Failed {
                return Err(format!("{told:?}"));
            } else {
                answered.push(told);
            }
        }
        Ok(answered)
    }

    pub(super) fn hear(&self) -> Result<Outcome, String> {
        self.hear_for(PATIENCE)?.ok_or_else(|| "it says nothing".to_owned())
    }

    pub(super) fn hear_for(&self, patience: Duration) -> Result<Option<Outcome>, String> {
        match self.daemon.as_ref().unwrap().told.recv_timeout(patience) {
            Ok(line) => outcome(&line).map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("it has ended".to_owned()),
        }
    }

    /// The outcome of the verdict with this number; what is told before it is taken in.
    pub(super) fn answer(&mut self, number: u16) -> Result<Outcome, String> {
        loop {
            let told = self.hear()?;
            if told.common.dest_port == Some(number) {
                return Ok(told);
            }
            self.take_in(&told.body)?;
        }
    }

    pub(super) fn event(&mut self) -> Result<(), String> {
        let told = self.hear()?;
        self.take_in(&told.body)
    }

    /// Something that no verdict asked for: an end, or a release by others.
    pub(super) fn take_in(&mut self, told: &OutcomeBody) -> Result<(), String> {
        let (scope, until) = (told.scope, told.until);
        let over = is_over(until, Timestamp::now());
        let known = self.known.blocks.get(&scope).copied();
        match told.result {
            OutcomeResult::Expired if over && known.is_none_or(|known| alike(known, until)) => {
                self.known.end(scope);
                Ok(())
            }
            OutcomeResult::Released if self.released.remove(&scope) || self.known.has_ended(scope, until) => {
                Ok(())
            }
            _ => Err(format!("{told:?}, and nobody asked")),
        }
    }

    /// What ends within `span` has ended.
    pub(super) fn settle(&mut self, span: Duration) -> Result<(), String> {
        while let Some((scope, until)) = self.known.next_end(Timestamp::now(), span) {
            if self.daemon.is_none() {
                // Nobody tells of it.
                thread::sleep(until.since(Timestamp::now()));
                self.known.end(scope);
            } else if self.ending.contains(&scope) {
                match self.hear_for(until.plus(SLACK).since(Timestamp::now()))? {
                    Some(told) => self.take_in(&told.body)?,
                    None => self.known.end(scope),
                }
            } else {
                self.event().map_err(|why| format!("not told that {scope} has ended: {why}"))?;
            }
        }
        Ok(())
    }
}
