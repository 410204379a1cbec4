//! Who may see hidden ports: the monitor takes vouches from standard input and passes them on, vouches for whoever is logged in when
//! it starts, and shows all ports again where `--confirm` is not heeded.

use std::time::{Duration, Instant};

use psentry_control::json_line;
use psentry_records::{Prefix, Timestamp};
use psentry_stage::{Complaints, report_status};

use super::Monitor;
use crate::confirm::{Answer, Confirm};
use crate::protocol::Confirmation;
use crate::settings::Settings;
use crate::vouch_input::{Line, VouchInput};
use crate::vouched::{Change, Vouched};
use crate::worker_process::WorkerProcess;
use crate::{TrapError, ruleset, sockets};

/// How often standard input is read, as long as more waits there, before the rules are told. An update costs much however few are in
/// it: many short writes must not have one for each.
const READS: usize = 16;

/// What was read on standard input.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) vouches: u64,
    pub(super) skipped: u64,
}

/// Who was vouched for before, and whoever is logged in where ports are hidden.
pub(super) fn vouched(settings: &Settings, complaints: &mut Complaints) -> Vouched {
    let (mut vouched, unread) = Vouched::open(settings.state.as_deref(), settings.vouched);
    if let Some(error) = unread {
        complaints.say(&format!("cannot read who is vouched for: {error}; they have to log in once more"));
    }
    let now = Timestamp::now();
    if !settings.hide.is_empty() {
        for addr in psentry_guard::logged_in().unwrap_or_default() {
            vouched.add_logged_in(addr, now);
        }
    }
    vouched
}

/// Begins to wait for a confirmation.
pub(super) fn begin(
    settings: &Settings,
    span: Duration,
    now: Instant,
    complaints: &mut Complaints,
) -> Result<Confirm, TrapError> {
    let (confirm, unread) =
        Confirm::begin(settings, span, now, sockets::connected(&settings.hidden_or_veiled())?);
    if let Some(error) = unread {
        complaints.say(&format!("cannot read what was confirmed: {error}; it has to be confirmed once more"));
    }
    Ok(confirm)
}

impl Monitor {
    /// Takes what standard input has. Whoever reads of a vouch finds it in force.
    pub(super) fn heed_vouches(&mut self, worker: &mut WorkerProcess) {
        let mut vouched = Vec::new();
        for _ in 0..READS {
            let Some(input) = &mut self.vouches else { return };
            if let Err(error) = input.fill() {
                self.complaints
                    .say(&format!("cannot read standard input: {error}; nobody can be vouched for there"));
            }
            vouched.extend(self.take_lines());
            if !self.vouches.as_ref().is_some_and(VouchInput::is_ready) {
                break;
            }
        }
        self.let_vouched_in();
        // Whoever is let in to one port is not kept out of it by what he did before.
        if let Err(error) = self.quarantine.release(&vouched) {
            self.complaints.say(&error.to_string());
        }
        if self.vouches.as_ref().is_some_and(VouchInput::is_ended) {
            self.vouches = None;
        }
        self.pass_on(worker);
    }

    /// Passes on what was read, as far as the worker has room.
    pub(super) fn pass_on(&mut self, worker: &mut WorkerProcess) {
        while self.unpassed.front().is_some_and(|vouch| worker.pass(vouch)) {
            self.unpassed.pop_front();
        }
    }

    /// Takes the lines that were read; who is vouched for by them.
    fn take_lines(&mut self) -> Vec<Prefix> {
        let mut vouched = Vec::new();
        while let Some(line) = self.vouches.as_mut().and_then(VouchInput::line) {
            match line {
                Line::Vouch(vouch) => {
                    self.lines.vouches = self.lines.vouches.saturating_add(1);
                    if let Change::Vouched(source) = self.vouched.add(&vouch, Timestamp::now()) {
                        vouched.push(source);
                    }
                    self.unpassed.push_back(*vouch);
                }
                Line::Skipped(number, malformed) => {
                    self.lines.skipped = self.lines.skipped.saturating_add(1);
                    self.complaints.skipped(number, &malformed);
                }
                Line::NoVouch(number) => {
                    self.lines.skipped = self.lines.skipped.saturating_add(1);
                    self.complaints.say(&format!(
                        "line {number} of the input skipped: it is no vouch, and psentry-trap takes nothing else there"
                    ));
                }
            }
        }
        vouched
    }

    /// Has the rules know who is vouched for now, and the file.
    fn let_vouched_in(&mut self) {
        let sources = self.vouched.at(Timestamp::now()).clone();
        if sources == self.facts.vouched {
            return;
        }
        let facts = crate::host_facts::HostFacts { vouched: sources, ..self.facts.clone() };
        match self.apply(&ruleset::update(&self.settings, &self.facts, &facts)) {
            Ok(()) => self.facts = facts,
            // The next poll of the host does it.
            Err(error) => self.complaints.say(&error.to_string()),
        }
        if let Err(why) = self.vouched.save() {
            self.complaints.say(&why);
        }
    }

    /// What this address does not see, and why, in words; nothing of networks.
    pub(super) fn unseen_by(&mut self, asked: Prefix) -> Result<Vec<String>, psentry_linux::Error> {
        let addr = asked.addr();
        let is_allowed = |prefix: &Prefix| prefix.contains(addr);
        if !asked.is_host() || self.facts.allow.iter().any(is_allowed) || self.in_force().observe {
            return Ok(Vec::new());
        }
        let mut unseen = Vec::new();
        let is_vouched = self.facts.is_vouched(addr);
        if !self.settings.hide.is_empty() && !is_vouched {
            unseen.push(format!(
                "ports {} are hidden from {}: no vouch names it, nor does a file of --allow",
                self.settings.hide,
                asked.short()
            ));
        }
        let is_near = !self.settings.veil_own && self.facts.near.iter().any(is_allowed);
        if let Some(familiar) = self.familiar.as_mut().filter(|_| !is_vouched && !is_near)
            && !familiar.has(addr)?
        {
            unseen.push(format!(
                "{} is a stranger at the veil: its first packet to TCP ports {} is dropped, and the same again let through",
                asked.short(),
                self.settings.veil
            ));
        }
        Ok(unseen)
    }

    /// What a command to confirm is answered.
    pub(super) fn confirm(&mut self) -> Result<Vec<u8>, String> {
        let connections =
            sockets::connected(&self.settings.hidden_or_veiled()).map_err(|error| error.to_string())?;
        if self.panic.holds().is_some() {
            return Err("a panic holds, in which everybody gets in; end it by 'psentry resume', connect anew, and confirm then".to_owned());
        }
        let Some(confirm) = &mut self.confirm else {
            return Ok(json_line(&Confirmation::new(
                true,
                "psentry-trap runs without --confirm: nothing ends by itself",
            )));
        };
        let (confirmed, what) = match confirm.confirm(&connections) {
            Answer::Confirmed(remembered) => {
                self.complaints.say("a command confirmed that hidden and veiled ports are reached");
                let what = match remembered {
                    Ok(()) if self.settings.state.is_some() => {
                        "confirmed: the ports of --hide and --veil stay so".to_owned()
                    }
                    Ok(()) => {
                        "confirmed until psentry-trap starts again, since it runs without --state".to_owned()
                    }
                    Err(why) => format!("confirmed until psentry-trap starts again: {why}"),
                };
                (true, what)
            }
            Answer::Already => (true, "it was confirmed before".to_owned()),
            Answer::NoConnection => {
                let left = confirm.left(Instant::now()).unwrap_or_default().as_secs();
                let what = format!(
                    "no connection to a port of --hide or --veil is new; open one from where you have to get in, and confirm again \
                     while it stands; {left} s left"
                );
                (false, what)
            }
            Answer::TooLate => (false, confirm.expired().unwrap_or_default()),
        };
        Ok(json_line(&Confirmation::new(confirmed, &what)))
    }

    /// Shows all ports again, if nobody confirmed in time.
    pub(super) fn expire_confirm(&mut self) {
        let Some(confirm) = &mut self.confirm else { return };
        if !confirm.expire(Instant::now()) {
            return;
        }
        let sentence = confirm.expired().unwrap_or_default();
        self.complaints.say(&sentence);
        if let Some(Err(why)) = self.familiar.take().map(|mut familiar| familiar.save_now()) {
            self.complaints.say(&why);
        }
        (self.settings.hide, self.settings.veil) = Default::default();
        self.facts.hidden = self.settings.hide.clone();
        if let Err(error) = self.load() {
            self.complaints.say(&error.to_string());
        }
        report_status(&self.status());
    }
}
