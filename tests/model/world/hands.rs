//! What others do: damage, decisions by hand, and the commands of psentry-block.

use super::*;
use crate::model::others::{Hand, delete};

impl Run<'_> {
    pub(super) fn damage(&mut self, way: usize) -> Result<(), String> {
        self.settle(SOON)?;
        let running = match &mut self.daemon {
            Some(daemon) if daemon.repairs >= REPAIRS => return Ok(()),
            Some(daemon) => {
                daemon.repairs += 1;
                true
            }
            None => false,
        };
        let Some(Hand { command, let_in }) = Hand::damage(self.backend, way, running, &self.known) else {
            return Ok(());
        };
        self.story.push(format!("    {command}"));
        // What is not there cannot be damaged.
        self.ground.0.run(&["sh", "-c", &command]);
        self.let_in(&let_in)
    }

    pub(super) fn delete(&mut self, scopes: &[&str]) -> Result<(), String> {
        self.settle(SOON)?;
        let Some(Hand { command, let_in }) = delete(self.backend, scopes, &self.known) else { return Ok(()) };
        self.story.push(format!("    {command}"));
        self.ground.0.run(&["sh", "-c", &command]);
        // What goes while psentry-block is dead is put back.
        if self.daemon.is_some() { self.let_in(&let_in) } else { Ok(()) }
    }

    pub(super) fn command(&mut self, words: &[&str]) -> Result<(), String> {
        let output =
            self.ground.0.command(bin("psentry-block")).args(words).args(self.flags()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{words:?}: {}: {error}", output.status)) }
    }

    /// These were let in; who hears of it tells it.
    pub(super) fn let_in(&mut self, scopes: &[Prefix]) -> Result<(), String> {
        for scope in scopes {
            self.open.remove(scope);
            if self.known.blocks.remove(scope).is_some() && self.daemon.is_some() {
                self.released.insert(*scope);
            }
        }
        if ["ipset", "iptables"].contains(&self.backend) {
            return Ok(());
        }
        while let (Some(scope), true) = (self.released.first(), self.daemon.is_some()) {
            let what = format!("that {scope} was let in");
            self.event().map_err(|why| format!("not told {what}: {why}"))?;
        }
        Ok(())
    }
}
