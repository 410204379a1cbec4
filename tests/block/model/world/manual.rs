//! What others do: damage, decisions by hand, and the commands of psentry-block.

use super::*;
use crate::block::model::damage::ManualChange;
use crate::block::model::manual_changes::{delete, effective_end, retime};
use crate::block::model::steps::REFUSED;

/// Longer than what is looked at waits for a look after the last one, unless there is a fight.
const PAUSE: Duration = Duration::from_millis(120);

impl Run<'_> {
    pub(super) fn damage(&mut self, at: usize, way: usize) -> Result<(), String> {
        self.rest(at)?;
        let side = &self.sides[at];
        let change = ManualChange::damage(side.backend, way, self.daemon.is_some(), &side.known);
        self.make_change(at, change, false)
    }

    pub(super) fn delete(&mut self, at: usize, scopes: &[&str]) -> Result<(), String> {
        self.rest(at)?;
        let side = &self.sides[at];
        let change = delete(self.sandbox.setting, side.backend, scopes, &side.known);
        self.make_change(at, change, true)
    }

    /// Has it done, and whomever that lets in let in. What is there goes, if psentry-block runs; what is not there cannot
    /// be damaged.
    fn make_change(&mut self, at: usize, change: Option<ManualChange>, is_there: bool) -> Result<(), String> {
        let Some(ManualChange { command, releases, .. }) = change.filter(|change| self.bears(change.repairs))
        else {
            return Ok(());
        };
        self.run_command(&command, is_there)?;
        if self.daemon.is_some() {
            return self.expect_released(&[(at, releases)]);
        }
        // What goes while psentry-block is dead is put back as it is remembered.
        for side in &mut self.sides {
            for (scope, may) in std::mem::take(&mut side.changed) {
                side.open.entry(scope).or_default().extend(may);
            }
        }
        Ok(())
    }

    pub(super) fn retime(&mut self, at: usize, scope: &str, seconds: Option<u64>) -> Result<(), String> {
        self.rest(at)?;
        let scope: Prefix = scope.parse().unwrap();
        let (side, running) = (&self.sides[at], self.daemon.is_some());
        let known = side.known.blocks.get(&scope).copied();
        let command = retime(side.backend, scope, seconds, running, &side.known);
        let (Some(known), Some(command)) = (known, command.filter(|_| self.bears(1))) else { return Ok(()) };
        let done = self.run_command(&command, true)?;
        let chosen = seconds.map(|seconds| Timestamp::now().plus(Duration::from_secs(seconds)));
        // What somebody took away while psentry-block is dead has no end to be changed.
        if done {
            self.sides[at].change(scope, known, effective_end(known, chosen, running), running);
        }
        self.quiet()
    }

    /// A block that a command makes itself, since it reaches nobody; whoever runs hears of it on nft, if it is for what he
    /// blocks, too.
    pub(super) fn block(&mut self, at: usize, scope: &str, seconds: u64) -> Result<(), String> {
        self.rest(at)?;
        let prefix: Prefix = scope.parse().unwrap();
        let side = &self.sides[at];
        let (backend, is_known) = (side.backend, side.known.blocks.contains_key(&prefix));
        let running = self.daemon.is_some();
        let heard = if running { backend == "nft" && is_known } else { !is_known };
        if !heard || side.open.contains_key(&prefix) || scope == REFUSED {
            return Ok(());
        }
        let state = self.state.path().to_str().unwrap().to_owned();
        let span = format!("{seconds}s");
        let words = ["block", scope, "--for", &span, "--backend", backend];
        // It counts from some moment while the command runs, and the command tells until when.
        let sent = Timestamp::now();
        let until = Some(sent.plus(Duration::from_secs(seconds)));
        let told =
            self.psentry(&words, &["--state", &state, "--hosts-deny", "/run/hosts.deny"].map(str::to_owned))?;
        let told = told.lines().next().map(outcome).transpose()?.and_then(|told| told.body.until);
        let asked =
            Asked { scope: prefix, block: Some(until), refused: false, unproven: false, undated: Some(sent) };
        self.sides[at].known.take(&asked.ending(told));
        if running { self.fence() } else { Ok(()) }
    }

    pub(super) fn unblock(&mut self, scope: &str) -> Result<(), String> {
        self.settle(self.soon(0..self.sides.len()))?;
        let scope: Prefix = scope.parse().unwrap();
        self.psentry(&["unblock", &scope.to_string()], &self.flags())?;
        let everywhere: Vec<_> = (0..self.sides.len()).map(|at| (at, vec![scope])).collect();
        self.expect_released(&everywhere)
    }

    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.settle(self.soon(0..self.sides.len()))?;
        self.psentry(&["flush"], &self.flags())?;
        let all = |side: &Side| side.known.blocks.keys().chain(side.open.keys()).copied().collect();
        let everywhere: Vec<_> = self.sides.iter().map(all).enumerate().collect();
        self.expect_released(&everywhere)
    }

    /// What may look like what somebody does now has ended, and what was damaged is whole again.
    fn rest(&mut self, at: usize) -> Result<(), String> {
        self.settle(self.soon(at..=at))?;
        self.quiet()
    }

    /// How soon that is on these backends. Where it is looked twice a second, what ends within two seconds is not counted:
    /// whoever lets that in is not told of, but its end is. And an end that was read at a start was read rounded up.
    fn soon(&self, mut which: impl Iterator<Item = usize>) -> Duration {
        let looked_for = |at: usize| self.sandbox.setting.legacy || self.sides[at].backend == "ipset";
        let is_rounded = |at: usize| !self.sides[at].ending.is_empty();
        if which.any(|at| looked_for(at) || is_rounded(at)) { 2 * SLACK } else { SOON }
    }

    /// Whatever was damaged has been seen to: what goes while damage waits for its repair is damage, too. What was told is
    /// read before a verdict is dealt with, and what was read is repaired before the next one, once the pause is over.
    fn quiet(&mut self) -> Result<(), String> {
        if !self.daemon.as_mut().is_some_and(|daemon| std::mem::take(&mut daemon.disturbed)) {
            return Ok(());
        }
        self.fence()?;
        thread::sleep(PAUSE);
        self.fence()
    }

    /// Whether so many repairs more are no fight.
    fn bears(&mut self, repairs: u32) -> bool {
        let Some(daemon) = &mut self.daemon else { return true };
        let bears = daemon.repairs + repairs <= REPAIRS;
        if bears {
            daemon.repairs += repairs;
            daemon.disturbed = true;
        }
        bears
    }

    /// Whether it was done; where psentry-block runs, what stands can be changed.
    fn run_command(&mut self, command: &str, stands: bool) -> Result<bool, String> {
        self.story.push(format!("    {command}"));
        let output = self.sandbox.sh(command);
        let done = output.status.success();
        if stands && self.daemon.is_some() && !done {
            return Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(done)
    }

    /// Runs a command; what it prints.
    fn psentry(&mut self, words: &[&str], flags: &[String]) -> Result<String, String> {
        // What a command takes away is looked at like damage.
        self.daemon.iter_mut().for_each(|daemon| daemon.disturbed = true);
        let output = self.sandbox.command(bin("psentry-block")).args(words).args(flags).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(told) } else { Err(format!("{words:?}: {}: {error}", output.status)) }
    }

    /// These were let in, each on one of the backends; who hears of it tells it.
    fn expect_released(&mut self, whom: &[(usize, Vec<Prefix>)]) -> Result<(), String> {
        let running = self.daemon.is_some();
        for (at, scopes) in whom {
            let side = &mut self.sides[*at];
            for scope in scopes {
                side.open.remove(scope);
                side.changed.remove(scope);
                if side.known.blocks.contains_key(scope) && running {
                    side.released.insert(*scope);
                }
                side.known.remove(*scope);
            }
        }
        while let Some((backend, scope)) = self.to_be_released() {
            let what = format!("that {scope} was let in on {backend}");
            self.event().map_err(|why| format!("not told {what}: {why}"))?;
        }
        Ok(())
    }

    /// What is to be told still: whom somebody let in, and on which backend.
    fn to_be_released(&self) -> Option<(&'static str, Prefix)> {
        self.sides.iter().find_map(|side| Some((side.backend, *side.released.first()?)))
    }
}

impl Side {
    /// Somebody chose another end. What he chose while psentry-block was dead counts if it stands when it starts.
    fn change(&mut self, scope: Prefix, known: Until, chosen: Until, running: bool) {
        if running {
            self.known.blocks.insert(scope, chosen);
        } else {
            let may = self.open.insert(scope, vec![Some(chosen)]).unwrap_or_else(|| vec![Some(known)]);
            self.changed.entry(scope).or_insert(may);
        }
    }
}
