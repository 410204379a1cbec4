//! `--confirm`: ports are hidden and veiled for a while only, until somebody shows that he still gets in, by a connection to one of
//! them that was not there before. A pure decision, but for the file `confirmed` of `--state`, which remembers for which ports that
//! was shown.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use psentry_stage::{counted, replace_file};

use crate::served_file::read_state;
use crate::settings::Settings;
use crate::sockets::Connection;

/// More bytes than all ports take.
const LONGEST: u64 = 1 << 20;

/// What has to be confirmed, and until when.
pub(crate) struct Confirm {
    /// The ports, as the file has them.
    ports: String,
    file: Option<PathBuf>,
    span: Duration,
    state: State,
}

enum State {
    Waits { deadline: Instant, before: BTreeSet<Connection> },
    Confirmed,
    Expired,
}

/// What became of a command to confirm.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is confirmed, and the file says so; where it cannot be written, why.
    Confirmed(Result<(), String>),
    /// It was before.
    Already,
    /// There is no new connection yet.
    NoConnection,
    /// The ports are shown again, since the time is over.
    TooLate,
}

impl Confirm {
    /// Begins, with the connections to hidden and veiled ports that stand; unless the file says that these ports were confirmed.
    pub(crate) fn begin(
        settings: &Settings,
        span: Duration,
        now: Instant,
        before: BTreeSet<Connection>,
    ) -> (Self, Option<io::Error>) {
        let ports = ports(settings);
        let file = settings.state.as_deref().map(|folder| folder.join("confirmed"));
        let read = |file: &Path| read_state(file, LONGEST);
        let (known, error) = match file.as_deref().map_or_else(|| Ok(String::new()), read) {
            Ok(known) => (known, None),
            Err(error) => (String::new(), Some(error)),
        };
        let state = if known == ports {
            State::Confirmed
        } else {
            State::Waits { deadline: now.checked_add(span).unwrap_or(now), before }
        };
        (Confirm { ports, file, span, state }, error)
    }

    /// When the time is over; `None`: it is over, or it is confirmed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waits { deadline, .. } => Some(*deadline),
            State::Confirmed | State::Expired => None,
        }
    }

    /// Confirms, if one of these connections was not there before.
    pub(crate) fn confirm(&mut self, connections: &BTreeSet<Connection>) -> Answer {
        match &self.state {
            State::Confirmed => Answer::Already,
            State::Expired => Answer::TooLate,
            State::Waits { before, .. } if connections.is_subset(before) => Answer::NoConnection,
            State::Waits { .. } => {
                self.state = State::Confirmed;
                Answer::Confirmed(self.save())
            }
        }
    }

    /// Ends it if its time is over; whether it ended now.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let is_over = self.deadline().is_some_and(|deadline| deadline <= now);
        if is_over {
            self.state = State::Expired;
        }
        is_over
    }

    /// That nobody confirmed it, if the time is over.
    pub(crate) fn expired(&self) -> Option<String> {
        matches!(self.state, State::Expired).then(|| {
            format!(
                "nobody confirmed --hide and --veil within {}: these ports are shown to everybody until psentry-trap starts again",
                humantime(self.span)
            )
        })
    }

    /// How long it may be confirmed yet.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(now))
    }

    fn save(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        replace_file(file, self.ports.as_bytes(), |_| Ok(()))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))
    }
}

/// The ports that are hidden and veiled, a line each.
fn ports(settings: &Settings) -> String {
    [("hide", &settings.hide), ("veil", &settings.veil)]
        .into_iter()
        .filter(|(_, ports)| !ports.is_empty())
        .map(|(flag, ports)| format!("{flag} {ports}\n"))
        .collect()
}

/// A span in whole minutes or seconds.
fn humantime(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(60) => counted(seconds / 60, "minute", "minutes"),
        seconds => counted(seconds, "second", "seconds"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Flags;

    const SPAN: Duration = Duration::from_secs(600);

    fn settings(flags: &str, folder: &Path) -> Settings {
        let flags = ["psentry-trap", "--state", folder.to_str().unwrap()].into_iter().chain(flags.split(' '));
        Settings::from_flags(Flags::parse_from(flags)).unwrap()
    }

    fn connection(port: u16) -> Connection {
        ("192.0.2.7".parse().unwrap(), port, 22)
    }

    fn begin(flags: &str, folder: &Path, now: Instant) -> Confirm {
        Confirm::begin(&settings(flags, folder), SPAN, now, [connection(1)].into()).0
    }

    #[test]
    fn only_a_new_connection_confirms_and_only_once_for_these_ports() {
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut confirm = begin("--hide 22 --veil 443,80", folder.path(), now);
        assert_eq!(confirm.deadline(), Some(now + SPAN));
        assert_eq!(confirm.confirm(&[connection(1)].into()), Answer::NoConnection);
        assert_eq!(confirm.confirm(&[connection(1), connection(2)].into()), Answer::Confirmed(Ok(())));
        assert_eq!(confirm.confirm(&BTreeSet::new()), Answer::Already);
        assert!(!confirm.expire(now + SPAN));
        let mut again = begin("--hide 22 --veil 80 --veil 443", folder.path(), now);
        assert_eq!((again.deadline(), again.confirm(&BTreeSet::new())), (None, Answer::Already));
        for other in ["--hide 22", "--hide 22-23 --veil 80,443", "--veil 22,80,443"] {
            assert!(begin(other, folder.path(), now).deadline().is_some(), "{other}");
        }
    }

    #[test]
    fn without_a_confirmation_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut confirm = begin("--hide 22", folder.path(), now);
        assert!(!confirm.expire(now + SPAN - Duration::from_millis(1)));
        assert_eq!((confirm.left(now), confirm.expired()), (Some(SPAN), None));
        assert!(confirm.expire(now + SPAN));
        assert!(!confirm.expire(now + SPAN));
        assert_eq!(confirm.confirm(&[connection(2)].into()), Answer::TooLate);
        assert!(confirm.expired().unwrap().contains("within 10 minutes"));
        // The next start begins anew.
        assert!(begin("--hide 22", folder.path(), now).deadline().is_some());
    }

    #[test]
    fn what_cannot_be_remembered_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut confirm = begin("--hide 22", &folder.path().join("none"), Instant::now());
        let Answer::Confirmed(Err(why)) = confirm.confirm(&[connection(2)].into()) else { panic!() };
        assert!(why.contains("confirmed"), "{why}");
    }
}
