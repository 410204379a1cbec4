//! Verdicts, one by one or together: each backend answers each of them, as far as the model of it says; one that concerns
//! no backend, since it is over or refused, is answered once.

use super::*;

impl Run<'_> {
    pub(super) fn write(&mut self, lines: &str) -> Result<(), String> {
        let stdin = &mut self.daemon.as_mut().unwrap().stdin;
        stdin.write_all(lines.as_bytes()).map_err(|why| format!("it does not read: {why}"))
    }

    pub(super) fn number(&mut self) -> u16 {
        self.number += 1;
        self.number
    }

    /// Something that changes nothing; answered after all that came before it, and all that was to be put back.
    pub(super) fn fence(&mut self) -> Result<(), String> {
        let number = self.number();
        let verdict = "\"verdict\":{\"action\":\"unblock\",\"scope\":\"192.0.2.250\"}";
        self.write(&format!(
            "{{\"timestamp\":\"{}\",\"dest_port\":{number},\"event_type\":\"verdict\",{verdict}}}\n",
            Timestamp::now()
        ))?;
        self.answers(&[(number, None)], usize::MAX).map(drop)
    }

    pub(super) fn say(&mut self, say: &Say) -> Result<(), String> {
        self.running()?;
        let number = self.number();
        let (line, asked) = say.line(number);
        let before = Timestamp::now();
        let known: Vec<Known> = self.sides.iter().map(|side| side.known.clone()).collect();
        self.write(&line)?;
        let told = self.answers(&[(number, Some(asked))], usize::MAX)?;
        let after = Timestamp::now();
        for (side, known) in self.sides.iter().zip(known) {
            let mut may = [before, after].map(|at| known.answers(&asked, at)).concat();
            // Its end was read rounded up, and may have been before.
            let is_ending =
                |until: &Until| is_over(*until, after.plus(SLACK)) && side.ending.contains(&asked.scope);
            if asked.block.is_none() && known.blocks.get(&asked.scope).is_some_and(is_ending) {
                may.push(OutcomeResult::Already);
            }
            let to_it =
                |told: &&Outcome| told.body.backend.as_deref().is_none_or(|name| name == side.backend);
            let told = told.iter().find(to_it).map(|told| &told.body);
            if !told.is_some_and(|told| may.contains(&told.result)) {
                return Err(format!("{told:?}, and was to be one of {may:?} on {}", side.backend));
            }
        }
        Ok(())
    }

    fn lines(&mut self, says: &[Say]) -> (String, Vec<(u16, Asked)>) {
        let (mut lines, mut all) = (String::new(), Vec::new());
        for say in says {
            let number = self.number();
            let (line, asked) = say.line(number);
            lines.push_str(&line);
            all.push((number, asked));
        }
        (lines, all)
    }

    pub(super) fn burst(&mut self, says: &[Say]) -> Result<(), String> {
        self.running()?;
        let (lines, all) = self.lines(says);
        self.write(&lines)?;
        let all: Vec<_> = all.into_iter().map(|(number, asked)| (number, Some(asked))).collect();
        self.answers(&all, usize::MAX).map(drop)
    }

    /// Of each scope whatever the last confirmed verdict left may stand, or any later one; what was over when it was sent
    /// may not, and what ends meanwhile may.
    pub(super) fn burst_and_kill(&mut self, says: &[Say], after: usize) -> Result<(), String> {
        self.running()?;
        let (lines, all) = self.lines(says);
        let sent = Timestamp::now();
        self.write(&lines)?;
        let numbers: Vec<_> = all.iter().map(|(number, _)| (*number, None)).collect();
        let mut told = self.answers(&numbers, after)?;
        told.extend(self.end(Signal::SIGKILL)?);
        for side in &mut self.sides {
            // What is refused, or answered without a backend, was never done, and does not tell that anything before it was.
            let of_it = told.iter().filter(|told| told.body.backend.as_deref() == Some(side.backend));
            let confirmed = of_it.filter(|told| told.body.result != OutcomeResult::Refused);
            let confirmed: BTreeSet<u16> = confirmed.filter_map(|told| told.common.dest_port).collect();
            let mut known = side.known.clone();
            for (number, asked) in &all {
                let before = known.blocks.get(&asked.scope).copied();
                if !asked.block.is_some_and(|until| is_over(until, sent)) {
                    known.take(asked);
                }
                let may = side.open.entry(asked.scope).or_insert_with(|| vec![before]);
                if confirmed.contains(number) {
                    may.clear();
                }
                may.push(known.blocks.get(&asked.scope).copied());
            }
        }
        Ok(())
    }
}
