//! Who is vouched for: whom the records of `vouch` on standard input name, and who was logged in when ports were hidden first. Each
//! for as long as his vouch holds, kept in the file `vouched` of `--state`. The rules let nobody else to hidden ports.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_records::{Common, Prefix, Timestamp, Vouch, VouchBody, canonical};

use crate::source_file::{self, Sources};

/// How many sources are vouched for at most, as many as the judge remembers. The one whose vouch ends first makes room.
const MOST: usize = 10_000;

/// Those who are vouched for, and the file.
pub(crate) struct Vouched {
    sources: Sources,
    /// For how long a vouch counts at most.
    longest: Duration,
    file: Option<PathBuf>,
}

/// What a vouch changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its source is vouched for from now on, or for longer.
    Vouched(Prefix),
    /// One of no time: its source is vouched for no longer.
    Withdrawn(Prefix),
    /// Nothing: it is over, names nobody, or one that is there holds for longer.
    Nothing,
}

impl Vouched {
    /// Reads the file in `state`, if there is one. An error of the file is given beside.
    pub(crate) fn open(state: Option<&Path>, longest: Duration) -> (Self, Option<io::Error>) {
        let file = state.map(|folder| folder.join("vouched"));
        let host = |addr| Some(Prefix::host(addr));
        let read = file.as_deref().map_or_else(|| Ok(Sources::new()), |file| source_file::read(file, host));
        let (sources, error) = match read {
            Ok(sources) => (sources, None),
            Err(error) => (Sources::new(), Some(error)),
        };
        (Vouched { sources, longest, file }, error)
    }

    /// Takes a vouch that was read at `now`. It counts from its own time, and not from the future.
    pub(crate) fn add(&mut self, vouch: &Vouch, now: Timestamp) -> Change {
        let Some(addr) = vouch.common.src_ip.map(canonical) else { return Change::Nothing };
        let source = Prefix::host(addr);
        if vouch.body.duration == Some(0) {
            return self.sources.remove(&source).map_or(Change::Nothing, |_| Change::Withdrawn(source));
        }
        let span =
            vouch.body.duration.map_or(self.longest, |secs| Duration::from_secs(secs).min(self.longest));
        let until = vouch.common.timestamp.min(now).plus(span);
        let held = self.sources.get(&source).copied();
        if until <= now || held.is_some_and(|held| held >= until) {
            return Change::Nothing;
        }
        if held.is_none() && self.sources.len() >= MOST {
            let first = self.sources.iter().min_by_key(|(_, until)| **until).map(|(first, _)| *first);
            first.map(|first| self.sources.remove(&first));
        }
        self.sources.insert(source, until);
        Change::Vouched(source)
    }

    /// Vouches for an address from which somebody is logged in.
    pub(crate) fn add_logged_in(&mut self, addr: IpAddr, now: Timestamp) {
        let common = Common { src_ip: Some(addr), ..Common::at(now) };
        self.add(&Vouch { common, body: VouchBody::default() }, now);
    }

    /// Who is vouched for at `now`, and until when. Those whose vouch is over are forgotten.
    pub(crate) fn at(&mut self, now: Timestamp) -> &Sources {
        self.sources.retain(|_, until| *until > now);
        &self.sources
    }

    /// Writes the file, if there is one.
    ///
    /// # Errors
    /// It cannot be written; in words.
    pub(crate) fn save(&self) -> Result<(), String> {
        self.file.as_ref().map_or(Ok(()), |file| source_file::write(file, &self.sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-12-22T15:04:05Z".parse().unwrap()
    }

    fn vouch(addr: &str, at: Timestamp, duration: Option<u64>) -> Vouch {
        let common = Common { src_ip: Some(addr.parse().unwrap()), ..Common::at(at) };
        Vouch { common, body: VouchBody { duration, ..VouchBody::default() } }
    }

    fn day() -> Vouched {
        Vouched::open(None, Duration::from_secs(86_400)).0
    }

    fn left(vouched: &mut Vouched) -> Vec<(String, u64)> {
        let left = |(source, until): (&Prefix, &Timestamp)| (source.short(), until.since(now()).as_secs());
        vouched.at(now()).iter().map(left).collect()
    }

    #[test]
    fn a_vouch_counts_from_its_time_and_never_for_longer_than_the_longest() {
        let mut vouched = day();
        let before = now().minus(Duration::from_secs(100));
        let later = now().plus(Duration::from_secs(1_000_000));
        vouched.add(&vouch("192.0.2.1", now(), None), now());
        vouched.add(&vouch("192.0.2.2", before, Some(150)), now());
        vouched.add(&vouch("192.0.2.3", later, Some(u64::MAX)), now());
        vouched.add(&vouch("::ffff:192.0.2.4", now(), Some(7)), now());
        assert_eq!(vouched.add(&vouch("192.0.2.5", before, Some(100)), now()), Change::Nothing);
        let want = [("192.0.2.1", 86_400), ("192.0.2.2", 50), ("192.0.2.3", 86_400), ("192.0.2.4", 7)];
        assert_eq!(left(&mut vouched), want.map(|(addr, left)| (addr.to_owned(), left)));
    }

    #[test]
    fn a_shorter_vouch_changes_nothing_and_one_of_no_time_withdraws_it() {
        let mut vouched = day();
        let source = Prefix::host("192.0.2.1".parse().unwrap());
        let mut add = |duration| vouched.add(&vouch("192.0.2.1", now(), Some(duration)), now());
        assert_eq!(add(0), Change::Nothing);
        assert_eq!(add(60), Change::Vouched(source));
        assert_eq!(add(30), Change::Nothing);
        assert_eq!(add(90), Change::Vouched(source));
        assert_eq!(add(0), Change::Withdrawn(source));
        assert_eq!(left(&mut vouched), []);
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let mut vouched = day();
        for n in 0..=u32::try_from(MOST).unwrap() {
            let addr = std::net::Ipv4Addr::from(n).to_string();
            vouched.add(&vouch(&addr, now(), Some(u64::from(n) + 100)), now());
        }
        let sources = vouched.at(now());
        let has = |addr: &str| sources.contains_key(&Prefix::host(addr.parse().unwrap()));
        assert_eq!((sources.len(), has("0.0.0.0"), has("0.0.0.1")), (MOST, false, true));
    }

    #[test]
    fn who_is_vouched_for_is_so_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Vouched::open(Some(folder.path()), Duration::from_secs(86_400));
        let (mut vouched, error) = open();
        assert!(error.is_none());
        vouched.add(&vouch("2001:db8:7::9", now(), Some(60)), now());
        vouched.save().unwrap();
        assert_eq!(left(&mut open().0), [("2001:db8:7::9".to_owned(), 60)]);
        assert!(open().0.at(now().plus(Duration::from_secs(60))).is_empty());
    }
}
