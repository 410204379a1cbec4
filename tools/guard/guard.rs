//! The guard, and what it last listed of this machine. The kernel is asked for what is new, not for everything each time:
//!
//! - Addresses and gateways are listed again when rtnetlink reports a change, and files (`--allow`, resolvers, translators, the
//!   record of logins) are read again when inotify does.
//! - Of a new connection nothing reports. To list them takes the kernel a walk through the table of all connections, a
//!   tenth of a millisecond and more on a machine with much memory. Where logins are on record, that is done every minute and
//!   otherwise only for a scope with an address that is on record or was connected: a connection that is newer than that is
//!   too young to be a login that nobody has recorded. Where they are not, a young connection may be a login, so the list may
//!   be only some milliseconds old.
//!
//! What it gives up: a question to a resolver or a time server that is neither in resolv.conf nor allowed is seen if it
//! lasts for a minute, and how long a connection has stood is known to a minute.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psentry_linux::{Error, HostAddresses, HostMonitor, RESOLVER_FILES, host_addresses};
use psentry_ports::PORTS_FILE;
use psentry_records::{Ignore, IgnoreError, Prefix};
use psentry_stage::{LastGood, spent};

use crate::allow::Allow;
use crate::connections::in_use;
use crate::logind;
use crate::never_blocked;
use crate::sessions::Sessions;
use crate::translators::Translators;

/// How long the list of connections counts where no login is on record: for so many times as long as the processor took to
/// list them, so that listing takes no more than a fiftieth of the time, and no longer than this.
const WORTH: u32 = 50;
const FRESH: Duration = Duration::from_secs(1);

/// How often everything is looked at anew though nothing was reported: who is connected, so that it is known how long, and
/// files on a file system that does not report changes. The engine wakes every minute anyway, for its counters.
const LOOK: Duration = Duration::from_secs(50);

/// The guard, with what it saw last.
pub struct Guard {
    /// What tells that addresses and gateways may have changed; `None`: they were not listed yet.
    monitor: Option<HostMonitor>,
    /// `None`: they are to be listed.
    around: Option<HostAddresses>,
    logins: Vec<RangeInclusive<u16>>,
    sessions: Sessions,
    looked: Option<Looked>,
    /// Why the kernel cannot tell who is connected.
    blind: Option<String>,
    allow: Allow,
    translators: Translators,
    /// What is to be told, each once.
    news: Vec<String>,
}

/// When connections were listed, and how much of the processor's time that took.
#[derive(Clone, Copy)]
struct Looked {
    when: Instant,
    took: Duration,
}

impl Guard {
    /// A guard for people who log in at the ports `logins`, where nobody stays connected for longer than `grace` without
    /// logging in, and for whom the files `allow` name.
    ///
    /// # Errors
    /// Which file of `allow`, or which line of it, cannot be used, where `last_good` has no copy of that file.
    pub fn new(
        logins: Vec<RangeInclusive<u16>>,
        grace: Duration,
        allow: &[PathBuf],
        last_good: LastGood,
    ) -> Result<Self, IgnoreError> {
        let mut guard = Guard {
            monitor: None,
            around: None,
            logins,
            sessions: Sessions::new(grace),
            looked: None,
            blind: None,
            allow: Allow::read(allow, last_good)?,
            translators: Translators::of(PathBuf::from(PORTS_FILE)),
            news: Vec::new(),
        };
        guard.news = guard.wrong_settings();
        guard.read_files();
        Ok(guard)
    }

    /// The files, and the directory, on which it depends.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.allow.files().to_vec();
        files.extend(RESOLVER_FILES.map(PathBuf::from));
        files.push(PathBuf::from(PORTS_FILE));
        files.push(Path::new(logind::RUN).join(logind::SESSIONS));
        files
    }

    /// Reads again what has changed of those files.
    pub fn read_files(&mut self) {
        self.around = None;
        let was_wrong = !self.wrong_settings().is_empty();
        if self.allow.renew() {
            let wrong = self.wrong_settings();
            let mended =
                (was_wrong && wrong.is_empty()).then(|| "--allow: all of it is right again".to_owned());
            self.news.extend(wrong.into_iter().chain(mended));
        }
        if let Err(error) = self.translators.renew() {
            self.news.push(format!("{error}; what was read before stays"));
        }
        self.sessions.heed_record(logind::remote_addresses(Path::new(logind::RUN)));
    }

    /// What is wrong with the files of `--allow` now, so that copies count, each as a sentence.
    #[must_use]
    pub fn wrong_settings(&self) -> Vec<String> {
        self.allow.wrong()
    }

    /// Why `scope` must not be blocked; `None`: it may.
    ///
    /// # Errors
    /// When the kernel does not answer: then nothing may be blocked.
    pub fn refusal(&mut self, scope: Prefix) -> Result<Option<String>, Error> {
        let around = match &mut self.around {
            Some(around) => around,
            none => {
                if self.monitor.is_none() {
                    // Before they are listed, so that no change is missed.
                    self.monitor = Some(HostMonitor::open()?);
                }
                none.insert(host_addresses()?)
            }
        };
        let why = never_blocked::refusal(scope, around);
        Ok(why.or_else(|| self.translators.refusal(scope)).or_else(|| self.allow.refusal(scope)))
    }

    /// Heeds what the kernel reported of addresses and gateways.
    pub fn heed_changes(&mut self) {
        let Some(monitor) = &mut self.monitor else { return };
        match monitor.changed() {
            Ok(false) => {}
            Ok(true) => self.around = None,
            // Then they are listed each time, with another one.
            Err(_) => (self.monitor, self.around) = (None, None),
        }
    }

    /// Why `scope` must not be blocked yet, because somebody is logged in from there; `None`: it may.
    ///
    /// # Errors
    /// When the kernel does not answer: then nothing may be blocked.
    pub fn not_yet(&mut self, scope: Prefix) -> Result<Option<String>, Error> {
        let known = self.looked.filter(|looked| {
            if self.sessions.has_record() {
                !self.sessions.may_refuse(scope)
            } else {
                looked.when.elapsed() < (looked.took * WORTH).min(FRESH)
            }
        });
        let when = match known {
            Some(looked) => looked.when,
            None => self.look()?,
        };
        Ok(self.sessions.refusal(scope, when))
    }

    /// Looks at everything anew if it is time.
    pub fn glance(&mut self) {
        if self.looked.is_none_or(|looked| looked.when.elapsed() >= LOOK) {
            self.read_files();
            // Whoever asks next looks himself, and is told.
            let _ = self.look();
        }
    }

    /// Whom `--allow` names, if that has changed since this was last asked.
    pub fn allowed_anew(&mut self) -> Option<Arc<Ignore>> {
        self.allow.changed()
    }

    /// What is to be told.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// Lists who is connected; when that was.
    fn look(&mut self) -> Result<Instant, Error> {
        let when = Instant::now();
        let (seen, took) = spent(|| in_use(&self.logins));
        let seen = seen?;
        let why = seen.as_ref().err().cloned();
        if let Some(why) = why.as_ref().filter(|why| self.blind.as_ref() != Some(why)) {
            self.news.push(format!(
                "the kernel does not tell who is connected ({why}): an address that --allow does not name is blocked even \
                 while somebody is logged in from there"
            ));
        }
        self.blind = why;
        self.looked = Some(Looked { when, took });
        self.sessions.note(when, seen.unwrap_or_default());
        Ok(when)
    }
}
