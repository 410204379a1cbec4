//! What psentry-block says: answers to verdicts, and what nobody asked for, which the model has to know the reason of.

use super::*;

impl Run<'_> {
    /// Awaits the answers to these verdicts, in whatever order they come, or so many of them. What is answered counts from
    /// then on: what it blocks may end while other answers are awaited. Whether it came in time, the answer tells.
    pub(super) fn answers(
        &mut self,
        asked: &[(u16, Option<Asked>)],
        most: usize,
    ) -> Result<Vec<Outcome>, String> {
        let each =
            |side: &Side| -> Vec<_> { asked.iter().map(|(number, _)| (*number, side.backend)).collect() };
        let mut waiting: BTreeSet<(u16, &str)> = self.sides.iter().flat_map(each).collect();
        let mut answered = Vec::new();
        while answered.len() < most && !waiting.is_empty() {
            let told = self.next_outcome()?;
            let still = waiting.len();
            let backend = told.body.backend.as_deref();
            waiting.retain(|(number, name)| {
                Some(*number) != told.common.dest_port || backend.is_some_and(|backend| backend != *name)
            });
            if waiting.len() == still {
                self.match_unsolicited(&told.body)?;
            } else if told.body.result == OutcomeResult::Failed {
                return Err(format!("{told:?}"));
            } else {
                let asked = asked.iter().find(|(number, _)| Some(*number) == told.common.dest_port);
                if let Some((_, Some(asked))) = asked.filter(|_| told.body.result != OutcomeResult::Expired) {
                    let asked = asked.ending(told.body.until);
                    let backend = told.body.backend.as_deref();
                    let to_it = |side: &&mut Side| backend.is_none_or(|backend| backend == side.backend);
                    self.sides.iter_mut().filter(to_it).for_each(|side| side.known.take(&asked));
                }
                answered.push(told);
            }
        }
        Ok(answered)
    }

    fn next_outcome(&self) -> Result<Outcome, String> {
        self.next_outcome_within(PATIENCE)?.ok_or_else(|| "it says nothing".to_owned())
    }

    fn next_outcome_within(&self, patience: Duration) -> Result<Option<Outcome>, String> {
        match self.daemon.as_ref().unwrap().told.recv_timeout(patience) {
            Ok(line) => outcome(&line).map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("it has ended".to_owned()),
        }
    }

    pub(super) fn event(&mut self) -> Result<(), String> {
        let told = self.next_outcome()?;
        self.match_unsolicited(&told.body)
    }

    /// Something that no verdict asked for: an end, or a release by others.
    fn match_unsolicited(&mut self, told: &OutcomeBody) -> Result<(), String> {
        let (scope, until) = (told.scope, told.until);
        let over = is_over(until, Timestamp::now());
        let side = self.side(told)?;
        let known = side.known.blocks.get(&scope).copied();
        match told.result {
            OutcomeResult::Expired if over && known.is_none_or(|known| alike(known, until)) => {
                side.known.end(scope);
                Ok(())
            }
            // What a kill left open may have stood, whatever stood before.
            OutcomeResult::Expired if over && side.may_stand(scope, until) => Ok(()),
            OutcomeResult::Released if side.released.remove(&scope) || side.known.has_ended(scope, until) => {
                Ok(())
            }
            _ => Err(format!("{told:?}, and nobody asked")),
        }
    }

    /// What ends within `span` has ended.
    pub(super) fn settle(&mut self, span: Duration) -> Result<(), String> {
        while let Some((at, scope, until)) = self.next_end(span) {
            let side = &mut self.sides[at];
            if self.daemon.is_none() {
                // Nobody tells of it.
                thread::sleep(until.since(Timestamp::now()));
                side.known.end(scope);
            } else if side.ending.contains(&scope) {
                match self.next_outcome_within(until.plus(SLACK).since(Timestamp::now()))? {
                    Some(told) => self.match_unsolicited(&told.body)?,
                    None => self.sides[at].known.end(scope),
                }
            } else {
                let backend = side.backend;
                let what = format!("that {scope} has ended on {backend}");
                self.event().map_err(|why| format!("not told {what}: {why}"))?;
            }
        }
        Ok(())
    }

    /// The next end within `span` from now, and on which backend.
    fn next_end(&self, span: Duration) -> Option<(usize, Prefix, Timestamp)> {
        let now = Timestamp::now();
        let ends = (0..).zip(&self.sides).filter_map(|(at, side)| {
            let (scope, until) = side.known.next_end(now, span)?;
            Some((at, scope, until))
        });
        ends.min_by_key(|(_, _, until)| *until)
    }
}
