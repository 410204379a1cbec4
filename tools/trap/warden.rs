//! The warden: loads the rules, keeps them up to date, takes them away. It has the right to, and so it reads nothing
//! that a stranger wrote: only what the kernel says of this machine.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_linux::{Watch, watch};
use psentry_stage::{Complaints, Output, Patience, Signals};

use crate::child::{Child, Ended};
use crate::counters::Counters;
use crate::ground::{Ground, Memory};
use crate::settings::Settings;
use crate::table::Table;
use crate::{TrapError, ruleset, sockets, stats};

/// How often it looks around without being told to.
const TICK: Duration = Duration::from_secs(10);

/// How soon after a change: several often come together.
const SOON: Duration = Duration::from_millis(100);

/// A table that was deleted: NFNL_SUBSYS_NFTABLES and NFT_MSG_DELTABLE (linux/netfilter/nf_tables.h).
const TABLE_GONE: u16 = (10 << 8) | 2;

/// The rules in the kernel. They go when this goes, even in a panic.
pub(crate) struct Warden {
    table: Table,
    settings: Settings,
    memory: Memory,
    ground: Ground,
    routes: Watch,
    tables: Watch,
    /// What the rules counted from the start, also those that others took away.
    counters: Counters,
    complaints: Complaints,
    loaded: bool,
}

/// Why the waiting ended.
enum Event {
    Stop,
    ReaderEnded(Ended),
    /// Somebody changed addresses, routes or tables, or it is time.
    Look,
}

impl Warden {
    /// Loads the rules.
    ///
    /// # Errors
    /// nft is missing, or the kernel does not take them.
    pub(crate) fn new(settings: Settings) -> Result<Self, TrapError> {
        let table = Table::new()?;
        // First the subscriptions, so that no change falls between them and the look.
        let groups = [watch::IPV4_ADDRESSES, watch::IPV6_ADDRESSES, watch::IPV4_ROUTES, watch::IPV6_ROUTES];
        let routes = Watch::open(NETLINK_ROUTE, &groups)?;
        let tables = Watch::open(NETLINK_NETFILTER, &[watch::NFTABLES])?;
        let mut memory = Memory::new(settings.served);
        let ground = Ground::look(memory.note(Instant::now(), &sockets::look()?))?;
        let mut warden = Warden {
            table,
            settings,
            memory,
            ground,
            routes,
            tables,
            counters: Counters::default(),
            complaints: Complaints::new("psentry-trap"),
            loaded: false,
        };
        warden.load()?;
        Ok(warden)
    }

    fn load(&mut self) -> Result<(), TrapError> {
        self.table.apply(&ruleset::whole(&self.settings, &self.ground))?;
        self.loaded = true;
        Ok(())
    }

    /// Watches over the rules until somebody asks to stop, or the reader ends.
    ///
    /// # Errors
    /// The reader ended on its own, or the rules could not be taken away.
    pub(crate) fn watch(mut self, mut reader: Child, signals: &Signals) -> Result<(), TrapError> {
        let mut look = Instant::now() + TICK;
        let ended = loop {
            match self.wait(look, &mut reader, signals)? {
                Event::Stop => break None,
                Event::ReaderEnded(ended) => break Some(ended),
                Event::Look if Instant::now() < look => look = look.min(Instant::now() + SOON),
                Event::Look => {
                    look = Instant::now() + TICK;
                    if let Err(error) = self.look() {
                        self.complaints.say(&error.to_string());
                    }
                    self.tell(false);
                }
            }
        };
        // The rules go first: whatever they logged, the reader then still tells.
        self.count();
        let removed = self.remove();
        let ended = ended.unwrap_or_else(|| reader.end());
        self.tell(true);
        self.complaints.say(&stats::sentence(&self.counters));
        removed?;
        match ended {
            Ended::Well => Ok(()),
            Ended::NobodyReads => Err(TrapError::NobodyReads),
            Ended::Badly(how) => Err(TrapError::ReaderEnded(how)),
        }
    }

    /// Waits for something to happen, until `look` at most.
    fn wait(&mut self, look: Instant, reader: &mut Child, signals: &Signals) -> Result<Event, TrapError> {
        loop {
            let patience = look.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return Ok(Event::Look);
            }
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(reader.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.routes.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.tables.as_fd(), PollFlags::POLLIN),
            ];
            let millis = u16::try_from(patience.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            match poll(&mut fds, PollTimeout::from(millis)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(TrapError::System("wait", errno.into())),
            }
            let [asked, child, routes, tables] = fds.map(|fd| fd.any().unwrap_or(true));
            if asked && signals.asked().is_some() {
                return Ok(Event::Stop);
            }
            if child {
                return Ok(Event::ReaderEnded(reader.end()));
            }
            let mut changed = false;
            if routes {
                let heard = self.routes.hear(|_, _| changed = true)?;
                changed |= heard.lost;
            }
            if tables {
                let heard = self.tables.hear(|header, _| changed |= header.message_type == TABLE_GONE)?;
                changed |= heard.lost;
            }
            if changed {
                return Ok(Event::Look);
            }
        }
    }

    /// Looks whether the rules still stand, and whether they still fit.
    fn look(&mut self) -> Result<(), TrapError> {
        let ground = Ground::look(self.memory.note(Instant::now(), &sockets::look()?))?;
        if !self.count() {
            self.ground = ground;
            self.load()?;
            self.complaints
                .say("somebody took the rules away, perhaps with 'flush ruleset'; they are loaded again");
            return Ok(());
        }
        let change = ruleset::change(&self.ground, &ground);
        self.table.apply(&change)?;
        self.ground = ground;
        Ok(())
    }

    /// Asks what the rules counted; `false`: they are gone.
    fn count(&mut self) -> bool {
        let earlier = self.counters.clone();
        match self.table.counters() {
            Ok(Some(counters)) => self.counters = counters.plus(&earlier),
            Ok(None) => return false,
            Err(error) => self.complaints.say(&error.to_string()),
        }
        let more = |name| self.counters.get(name).saturating_sub(earlier.get(name));
        if more("full") > 0 {
            self.complaints.say(&format!(
                "the quarantine is full: {} packets of further sources were refused one by one",
                more("full")
            ));
        }
        if more("unheard_total") > 0 {
            self.complaints.say(&format!(
                "{} packets were beyond --rate and are not told of one by one",
                more("unheard_total")
            ));
        }
        true
    }

    /// Writes what the rules counted, if there is something new and somebody reads.
    fn tell(&mut self, last: bool) {
        let room = || {
            let stdout = io::stdout();
            let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
            poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].revents() == Some(PollFlags::POLLOUT)
        };
        if self.counters.is_empty() || !(last || self.counters.get("seen") > 0) || !room() {
            return;
        }
        let line = stats::of_kernel(self.settings.host.as_deref(), &self.counters);
        // They count from the start: the next record makes up for one that is not written.
        let _ = Output::stdout().and_then(|mut output| output.pass(Patience::Grace, &line));
    }

    /// Takes the rules away.
    fn remove(&mut self) -> Result<(), TrapError> {
        if std::mem::take(&mut self.loaded) { self.table.remove() } else { Ok(()) }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
