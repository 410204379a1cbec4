//! What psentry-block says: answers to verdicts, and what nobody asked for, which the model has to know the reason of.

use super::*;

/// Whether an answer says that its verdict changed what is wanted: what is refused or over before it concerns a backend did not.
pub(super) fn is_heeded(told: &OutcomeBody) -> bool {
    told.backend.is_some() || told.result == OutcomeResult::Released
}

impl Run<'_> {
    /// Awaits the answers to these verdicts, in whatever order they come, or so many of them. What is answered counts from
    /// then on: what it blocks may end while other answers are awaited.
    pub(super) fn answers(&mut self, asked: &[(u16, Asked)], most: usize) -> Result<Vec<Outcome>, String> {
        let each =
            |side: &Side| -> Vec<_> { asked.iter().map(|(number, _)| (*number, side.backend)).collect() };
        let mut waiting: BTreeSet<(u16, &str)> = self.sides.iter().flat_map(each).collect();
        let (mut answered, mut taken) = (Vec::new(), BTreeSet::new());
        while answered.len() < most && !waiting.is_empty() {
            let told = self.next_outcome()?;
            let still = waiting.len();
            let backend = told.body.backend.as_deref();
            waiting.retain(|(number, name)| {
                Some(*number) != told.common.dest_port || backend.is_some_and(|backend| backend != *name)
            });
            if waiting.len() == still {
                self.match_unsolicited(&told.body)?;
                continue;
            }
            if let Some((number, asked)) =
                asked.iter().find(|(number, _)| Some(*number) == told.common.dest_port)
            {
                self.take(asked, &told.body, taken.insert(*number))?;
            }
            answered.push(told);
        }
        Ok(answered)
    }

    /// What a verdict that was answered changes; the first backend says that it was heeded, and each what it has now.
    pub(super) fn take(&mut self, asked: &Asked, told: &OutcomeBody, first: bool) -> Result<(), String> {
        if told.result == OutcomeResult::Failed {
            return Err(format!("{told:?}"));
        }
        if first && is_heeded(told) {
            self.known.take(&asked.ending(told.until));
        }
        let Some(backend) = told.backend.as_deref() else { return Ok(()) };
        let side = self.side(Some(backend))?;
        match (told.action, told.result) {
            (Action::Block, OutcomeResult::Applied | OutcomeResult::Already) => {
                side.holds.insert(asked.scope, told.until);
            }
            (Action::Block, OutcomeResult::Refused | OutcomeResult::Failed) => {}
            _ => _ = side.holds.remove(&asked.scope),
        }
        Ok(())
    }

    fn next_outcome(&self) -> Result<Outcome, String> {
        match self.daemon.as_ref().unwrap().told.recv_timeout(PATIENCE) {
            Ok(line) => outcome(&line),
            Err(RecvTimeoutError::Timeout) => Err("it says nothing".to_owned()),
            Err(RecvTimeoutError::Disconnected) => Err("it has ended".to_owned()),
        }
    }

    /// Awaits that psentry-block says what a command printed, too.
    pub(super) fn same(&mut self, printed: &[Outcome]) -> Result<(), String> {
        let mut waiting: Vec<&Outcome> = printed.iter().collect();
        while !waiting.is_empty() {
            let told = self.next_outcome().map_err(|why| format!("{why} of {waiting:?}"))?;
            let same =
                |other: &&Outcome| other.body == told.body && other.common.timestamp == told.common.timestamp;
            match waiting.iter().position(same) {
                Some(at) => _ = waiting.remove(at),
                None => self.match_unsolicited(&told.body)?,
            }
        }
        Ok(())
    }

    /// Something that no verdict asked for: an end, or a repair.
    fn match_unsolicited(&mut self, told: &OutcomeBody) -> Result<(), String> {
        let (scope, until) = (told.scope, told.until);
        let (over, wanted) = (is_over(until, Timestamp::now()), self.known.blocks.get(&scope).copied());
        let side = self.side(told.backend.as_deref())?;
        let is = |held: Option<&Until>| held.is_some_and(|held| alike(*held, until));
        match told.result {
            OutcomeResult::Expired if over && is(side.holds.get(&scope)) => {
                side.holds.remove(&scope);
                if wanted.is_some_and(|block| alike(block.until, until)) {
                    self.known.end(scope);
                }
                Ok(())
            }
            OutcomeResult::Expired if over && is(side.ending.get(&scope)) => Ok(()),
            // A command that was confirmed is undone by the next start, if it was released or over by then.
            OutcomeResult::Expired | OutcomeResult::Released
                if side.backend == "exec" && wanted.is_none() =>
            {
                Ok(())
            }
            OutcomeResult::Applied
                if side.damaged.contains(&scope)
                    && is(side.holds.get(&scope))
                    && told.reason.as_deref().is_some_and(|why| why.contains("psentry-block unblock")) =>
            {
                Ok(())
            }
            _ => Err(format!("{told:?}, and nobody asked")),
        }
    }

    /// What ends within `span` has ended, and every backend that had it says so.
    pub(super) fn settle(&mut self, span: Duration) -> Result<(), String> {
        while let Some((scope, until)) = self.known.next_end(Timestamp::now(), span) {
            thread::sleep(until.since(Timestamp::now()));
            while self.daemon.is_some() && self.sides.iter().any(|side| side.holds.contains_key(&scope)) {
                let told = self.next_outcome().map_err(|why| format!("{why}, and {scope} has ended"))?;
                self.match_unsolicited(&told.body)?;
            }
            self.known.end(scope);
        }
        Ok(())
    }
}
