//! Verdicts, one by one or together: each backend answers each of them, as far as the model says; one that concerns no backend,
//! since it is over or refused, is answered once.

use super::outcomes::is_heeded;
use super::*;

impl Run<'_> {
    fn write(&mut self, lines: &str) -> Result<(), String> {
        let stdin = &mut self.daemon.as_mut().unwrap().stdin;
        stdin.write_all(lines.as_bytes()).map_err(|why| format!("it does not read: {why}"))
    }

    fn lines(&mut self, says: &[Say]) -> (String, Vec<(u16, Asked)>) {
        let (mut lines, mut all) = (String::new(), Vec::new());
        for say in says {
            self.number += 1;
            let (line, asked) = say.line(self.number);
            lines.push_str(&line);
            all.push((self.number, asked));
        }
        (lines, all)
    }

    pub(super) fn say(&mut self, say: &Say) -> Result<(), String> {
        self.running()?;
        let (line, all) = self.lines(std::slice::from_ref(say));
        let known = self.known.clone();
        self.write(&line)?;
        let told = self.answers(&all, usize::MAX)?;
        self.judge(&known, &all[0].1, &told)
    }

    /// Whether these are the answers that the model gives, too.
    pub(super) fn judge(&self, known: &Known, asked: &Asked, told: &[Outcome]) -> Result<(), String> {
        let (before, after) = (asked.sent, Timestamp::now());
        for side in &self.sides {
            let may = [before, after].map(|at| known.answers(asked, at, side.backend)).concat();
            let to_it =
                |told: &&Outcome| told.body.backend.as_deref().is_none_or(|name| name == side.backend);
            let told = told.iter().find(to_it).map(|told| &told.body);
            if !told.is_some_and(|told| may.contains(&told.result)) {
                return Err(format!("{told:?}, and was to be one of {may:?} on {}", side.backend));
            }
        }
        Ok(())
    }

    /// Unblocks a scope, whatever is known of it.
    pub(super) fn release(&mut self, scope: Prefix) -> Result<(), String> {
        self.number += 1;
        let number = self.number;
        let verdict = format!("\"verdict\":{{\"action\":\"unblock\",\"scope\":\"{scope}\"}}");
        self.write(&format!(
            "{{\"timestamp\":\"{}\",\"dest_port\":{number},\"event_type\":\"verdict\",{verdict}}}\n",
            Timestamp::now()
        ))?;
        let asked = Asked { scope, block: None, refused: false, sent: Timestamp::now(), undated: false };
        self.answers(&[(number, asked)], usize::MAX).map(drop)
    }

    pub(super) fn burst(&mut self, says: &[Say]) -> Result<(), String> {
        self.running()?;
        let (lines, all) = self.lines(says);
        self.write(&lines)?;
        self.answers(&all, usize::MAX).map(drop)
    }

    /// Of each scope whatever the last confirmed verdict left may be wanted, or any later one; what was over when it was sent
    /// may not, and what ends meanwhile may.
    pub(super) fn burst_and_kill(&mut self, says: &[Say], after: usize) -> Result<(), String> {
        self.running()?;
        let (lines, all) = self.lines(says);
        let mut known = self.known.clone();
        self.write(&lines)?;
        let mut told = self.answers(&all, after)?;
        told.extend(self.end(Signal::SIGKILL)?);
        let confirmed = told.iter().filter(|told| is_heeded(&told.body));
        let confirmed: BTreeSet<u16> = confirmed.filter_map(|told| told.common.dest_port).collect();
        for (number, asked) in &all {
            let before = known.blocks.get(&asked.scope).copied();
            if !asked.block.is_some_and(|block| block.is_over(asked.sent)) {
                known.take(asked);
            }
            let may = self.open.entry(asked.scope).or_insert_with(|| vec![before]);
            if confirmed.contains(number) {
                may.clear();
            }
            may.push(known.blocks.get(&asked.scope).copied());
        }
        Ok(())
    }
}
