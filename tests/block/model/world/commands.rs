//! The commands of psentry-block, beside one that runs and without. What they print is what the one that runs says.

use super::*;

impl Run<'_> {
    pub(super) fn block(&mut self, scope: &str, seconds: u64) -> Result<(), String> {
        let sent = Timestamp::now();
        let until = Some(sent.plus(Duration::from_secs(seconds)));
        let block = Some(Block { until, unproven: false });
        let refused = scope == REFUSED;
        let scope: Prefix = scope.parse().unwrap();
        // What a kill left open, and is blocked on top of that, would stay open.
        if self.open.contains_key(&scope) {
            return Ok(());
        }
        let words = ["block", &scope.to_string(), "--for", &format!("{seconds}s")];
        // It counts from some moment while the command runs.
        self.ask(&words, &Asked { scope, block, refused, sent, undated: true })
    }

    pub(super) fn unblock(&mut self, scope: &str) -> Result<(), String> {
        let scope: Prefix = scope.parse().unwrap();
        self.open.remove(&scope);
        let asked = Asked { scope, block: None, refused: false, sent: Timestamp::now(), undated: false };
        self.ask(&["unblock", &scope.to_string()], &asked)
    }

    fn ask(&mut self, words: &[&str], asked: &Asked) -> Result<(), String> {
        let known = self.known.clone();
        let output = self.psentry(words, &self.flags());
        // Who is unblocked, and in a wider block or around another one, is told so.
        let overlaps = asked.block.is_none()
            && output.status.code() == Some(1)
            && String::from_utf8_lossy(&output.stderr).contains("still blocked");
        if !overlaps && output.status.success() == asked.refused {
            return Err(format!("{words:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        let printed = outcomes(&output)?;
        if self.daemon.is_none() {
            let until = printed.iter().find_map(|outcome| outcome.body.until);
            self.known.take(&asked.ending(until));
            return Ok(());
        }
        self.judge(&known, asked, &printed)?;
        self.same(&printed)?;
        for (number, outcome) in printed.iter().enumerate() {
            self.take(asked, &outcome.body, number == 0)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), String> {
        let output = self.psentry(&["flush"], &self.flags());
        if !output.status.success() {
            return Err(format!("flush: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        self.open.clear();
        let known = std::mem::take(&mut self.known.blocks);
        if self.daemon.is_none() {
            return Ok(());
        }
        let printed = outcomes(&output)?;
        self.same(&printed)?;
        for side in &mut self.sides {
            for told in printed.iter().filter(|told| told.body.backend.as_deref() == Some(side.backend)) {
                side.holds.remove(&told.body.scope);
            }
            let over = |until: &Until| is_over(*until, Timestamp::now().plus(SLACK));
            if let Some((scope, until)) = side.holds.iter().find(|(_, until)| !over(until)) {
                return Err(format!(
                    "{scope} until {until:?} is not said to be released on {}",
                    side.backend
                ));
            }
            side.ending.append(&mut side.holds);
        }
        for (scope, block) in known {
            // It may have ended a moment before.
            if block.is_over(Timestamp::now()) {
                self.known.blocks.insert(scope, block);
                self.known.end(scope);
            }
        }
        Ok(())
    }
}
