//! How the monitor loads its rules: at the start, after others changed them, and at the begin and the end of a panic.

use std::time::{Duration, Instant};

use psentry_nftables::TableChange;
use psentry_records::Timestamp;
use psentry_stage::panic_file::Order;

use super::{Monitor, POLL_INTERVAL};
use crate::drift::RepairPace;
use crate::host_facts::HostFacts;
use crate::panic_watch::Change;
use crate::settings::Settings;
use crate::{TrapError, ruleset};

/// What makes a text for nft(8) that changes the table that is there.
type Template = fn(&Settings, &HostFacts, Duration) -> String;

impl Monitor {
    /// Makes the table.
    pub(super) fn load(&mut self) -> Result<(), TrapError> {
        self.apply(&ruleset::full(&self.in_force(), &self.facts, self.settings.grace_left()))?;
        self.loaded = true;
        if let Some(familiar) = &mut self.familiar {
            familiar.restore(Timestamp::now(), self.settings.familiar, || self.rule_changes.read())?;
        }
        Ok(())
    }

    /// What the flags say, except that while a panic holds the rules only observe.
    pub(super) fn in_force(&self) -> Settings {
        Settings { observe: self.settings.observe || self.panic.holds().is_some(), ..self.settings.clone() }
    }

    /// Has nft do what `text` says, and tells that from what others do.
    pub(super) fn apply(&mut self, text: &str) -> Result<(), TrapError> {
        if text.is_empty() {
            return Ok(());
        }
        self.rule_changes.read()?;
        self.table.apply(text)?;
        Ok(self.rule_changes.read_own()?)
    }

    /// Loads the rules again into the table that is there; whether that could be done. In two steps, since the kernel does
    /// not wake a table and add chains to it at once.
    fn reload(&mut self, template: Template) -> bool {
        let text = template(&self.in_force(), &self.facts, self.settings.grace_left());
        self.apply(&ruleset::wake()).is_ok() && self.apply(&text).is_ok()
    }

    /// Loads the rules again, and releases everybody.
    pub(super) fn release_all(&mut self) -> Result<(), TrapError> {
        if self.reload(ruleset::release) { Ok(()) } else { self.load() }
    }

    /// Loads the rules again, after others changed them.
    pub(super) fn repair(&mut self) -> Result<(), TrapError> {
        let now = Instant::now();
        // In case that it does not go well.
        self.repair_at = Some(now + POLL_INTERVAL);
        let change = self.rule_changes.take();
        let gone = matches!(change, None | Some(TableChange::Transaction { deleted: true, .. }));
        let kept = !gone && self.reload(ruleset::repair);
        if !kept {
            self.load()?;
        }
        self.repair_at = None;
        self.repairs = self.repairs.saturating_add(1);
        self.pace.repaired(now);
        let somebody = |author: Option<String>| author.unwrap_or_else(|| "somebody".to_owned());
        let what = match change {
            None => "somebody removed the rules".to_owned(),
            Some(TableChange::Transaction { author, deleted: true }) => {
                format!("{} removed the rules", somebody(author))
            }
            Some(TableChange::Transaction { author, .. }) => {
                format!("{} changed the rules", somebody(author))
            }
            Some(TableChange::Unknown) => "the kernel had more changes than it could notify of".to_owned(),
        };
        let quarantine = match kept {
            _ if self.in_force().observe => "",
            true => "; the quarantine is kept",
            false => "; the quarantine is empty",
        };
        self.complaints.say(&format!("{what}; they are loaded again{quarantine}"));
        if self.pace.is_contested(now) {
            self.complaints.say(&format!(
                "the rules were changed again and again; they are loaded again at most every {} s, until a minute passes \
                 without a change",
                RepairPace::PATIENCE.as_secs()
            ));
        }
        Ok(())
    }

    /// Looks whether a panic began or is over, and then loads the rules for that, and releases everybody; whether it did.
    pub(super) fn heed_panic(&mut self) -> bool {
        let change = match self.panic.look(Instant::now()) {
            Ok(Some(change)) => change,
            Ok(None) => return false,
            Err(why) => {
                self.complaints.say(&format!(
                    "cannot tell whether a panic holds: {why}; its directory has to be open to everybody (mode 0755)"
                ));
                return false;
            }
        };
        if let Err(error) = self.release_all() {
            self.complaints.say(&error.to_string());
            return false;
        }
        self.panic.heeded();
        if change != Change::Over {
            self.panics = self.panics.saturating_add(1);
        }
        let sentence = match (self.panic.holds(), change) {
            (Some(order), _) => panic_sentence(order),
            (None, Change::Passed) => "there was a panic; everybody is released from quarantine".to_owned(),
            (None, _) => "the panic is over".to_owned(),
        };
        self.complaints.say(&sentence);
        true
    }
}

/// That a panic holds, and what that means.
pub(super) fn panic_sentence(order: &Order) -> String {
    format!("{}: nobody is in quarantine until 'psentry resume'", order.declared())
}
