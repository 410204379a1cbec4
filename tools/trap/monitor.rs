//! The monitor: loads the rules, keeps them up to date, deletes them. It has the privilege to, and so it reads nothing
//! that a stranger wrote, and nothing from the worker: only what the kernel says of this machine.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_linux::{NetlinkMonitor, netlink_monitor};
use psentry_records::StatsBody;
use psentry_stage::{Complaints, Request, Signals, StatsTimer};

use crate::counters::KernelCounters;
use crate::drift::{Drift, DriftReader, RepairPace, SOMEBODY};
use crate::full_quarantine::FullQuarantine;
use crate::host_facts::{HostFacts, RecentPorts};
use crate::machine::machine;
use crate::ports_file::PortsFile;
use crate::served_file::ServedFile;
use crate::service_manager::{ServiceManager, ready_sentence};
use crate::settings::Settings;
use crate::sockets::Listening;
use crate::table::Table;
use crate::worker_process::{Ended, WorkerProcess};
use crate::{TrapError, rtnetlink, ruleset, sockets};

/// How often the host's facts and the table are polled. Netlink tells of most changes, but of no socket.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// How soon after a notification they are polled: several changes often come together.
const SETTLE: Duration = Duration::from_millis(100);

/// The owner of the rules in the kernel. They are deleted when it is dropped, even in a panic.
pub(crate) struct Monitor {
    table: Table,
    settings: Settings,
    recent_ports: RecentPorts,
    ports: PortsFile,
    served_file: Option<ServedFile>,
    facts: HostFacts,
    route_changes: NetlinkMonitor,
    table_changes: NetlinkMonitor,
    drift: DriftReader,
    pace: RepairPace,
    /// When the rules are to be loaded again, because somebody changed them.
    repair_at: Option<Instant>,
    /// How often they were.
    repairs: u64,
    /// What the rules counted from the start, also those that others deleted.
    counters: KernelCounters,
    full_quarantine: FullQuarantine,
    complaints: Complaints,
    loaded: bool,
}

/// Why the waiting ended.
enum Event {
    Stop,
    /// SIGUSR1 asks for a `stats` record.
    StatsAsked,
    WorkerEnded(Ended),
    /// Somebody changed addresses or routes.
    Changed,
    /// Somebody else changed the rules.
    Drifted,
    /// The time is over.
    Due,
}

impl Monitor {
    /// Loads the rules.
    ///
    /// # Errors
    /// nft is missing, or the kernel does not take them.
    pub(crate) fn new(settings: Settings, ports: PortsFile) -> Result<Self, TrapError> {
        let table = Table::new()?;
        // First the subscriptions, so that no change falls between them and the facts.
        let groups = [
            netlink_monitor::RTNLGRP_IPV4_IFADDR,
            netlink_monitor::RTNLGRP_IPV6_IFADDR,
            netlink_monitor::RTNLGRP_IPV4_ROUTE,
            netlink_monitor::RTNLGRP_IPV6_ROUTE,
        ];
        let route_changes = NetlinkMonitor::open(NETLINK_ROUTE, &groups)?;
        let table_changes = NetlinkMonitor::open(NETLINK_NETFILTER, &[netlink_monitor::NFNLGRP_NFTABLES])?;
        let mut complaints = Complaints::new("psentry-trap");
        let now = Instant::now();
        let mut recent_ports = RecentPorts::new(settings.served);
        let served_file = settings.state.as_ref().map(|folder| {
            let (file, served) = ServedFile::open(folder, now);
            match served {
                Ok(served) => drop(recent_ports.update(now, &served)),
                Err(error) => complaints.say(&format!("cannot read {}: {error}", file.path().display())),
            }
            file
        });
        let listening = recent_ports.update(now, &sockets::look()?);
        let facts = HostFacts::read(listening, Listening::default(), ports.table().clone())?;
        let mut monitor = Monitor {
            table,
            settings,
            recent_ports,
            ports,
            served_file,
            drift: DriftReader::new(ruleset::filled_sets(&facts)),
            pace: RepairPace::default(),
            repair_at: None,
            repairs: 0,
            facts,
            route_changes,
            table_changes,
            counters: KernelCounters::default(),
            full_quarantine: FullQuarantine::default(),
            complaints,
            loaded: false,
        };
        monitor.load()?;
        Ok(monitor)
    }

    fn load(&mut self) -> Result<(), TrapError> {
        self.apply(&ruleset::full(&self.settings, &self.facts, self.settings.grace_left()))?;
        self.loaded = true;
        Ok(())
    }

    /// Has nft do what `text` says, and tells that from what others do.
    fn apply(&mut self, text: &str) -> Result<(), TrapError> {
        if text.is_empty() {
            return Ok(());
        }
        self.read_drift()?;
        self.table.apply(text)?;
        self.drift.expect_own(1);
        let read = self.read_drift();
        self.drift.expect_own(0);
        read
    }

    /// Reads what the kernel notifies of the table.
    fn read_drift(&mut self) -> Result<(), TrapError> {
        loop {
            let drift = &mut self.drift;
            let received = self.table_changes.receive(|header, message| drift.read(header, message))?;
            if received.lost {
                drift.lost();
            }
            if !received.more {
                return Ok(());
            }
        }
    }

    /// Loads the rules again, after others changed them.
    fn repair(&mut self) -> Result<(), TrapError> {
        let now = Instant::now();
        // In case that it does not go well.
        self.repair_at = Some(now + POLL_INTERVAL);
        let drift = self.drift.take();
        let gone = matches!(drift, None | Some(Drift::Deleted(_)));
        // In two steps, since the kernel does not wake a table and add chains to it at once.
        let kept = !gone
            && self.apply(&ruleset::wake()).is_ok()
            && self.apply(&ruleset::repair(&self.settings, &self.facts, self.settings.grace_left())).is_ok();
        if !kept {
            self.load()?;
        }
        self.repair_at = None;
        self.repairs = self.repairs.saturating_add(1);
        self.pace.repaired(now);
        let what = match drift {
            None => format!("{SOMEBODY} took the rules away"),
            Some(Drift::Deleted(author)) => format!("{author} took the rules away"),
            Some(Drift::Changed(author)) => format!("{author} changed the rules"),
            Some(Drift::Unknown) => "the kernel had more changes than it could notify of".to_owned(),
        };
        let quarantine = match kept {
            _ if self.settings.observe => "",
            true => "; whoever was in quarantine still is",
            false => "; the quarantine is empty",
        };
        self.complaints.say(&format!("{what}; they are loaded again{quarantine}"));
        if self.pace.is_contested(now) {
            self.complaints.say(&format!(
                "the rules were changed again and again; they are loaded again at most every {} s, until a minute goes by \
                 without that",
                RepairPace::PATIENCE.as_secs()
            ));
        }
        Ok(())
    }

    /// Keeps the rules up to date until somebody asks to stop, or the worker ends.
    ///
    /// # Errors
    /// The worker ended on its own, or the rules could not be deleted.
    pub(crate) fn run(mut self, mut worker: WorkerProcess, signals: &Signals) -> Result<(), TrapError> {
        let mut next_poll = Instant::now() + POLL_INTERVAL;
        let mut timer = StatsTimer::start(Instant::now());
        let mut stats_asked = false;
        let sentence = ready_sentence(&self.settings);
        self.complaints.say(&sentence);
        let mut manager = ServiceManager::ready(&sentence, Instant::now()).unwrap_or_else(|error| {
            self.complaints.say(&error);
            ServiceManager::unreachable()
        });
        // The judge is to know the networks of this machine before it judges anybody near.
        let stats = self.stats();
        worker.report(stats);
        let ended = loop {
            manager.keep_alive(Instant::now());
            let others = [self.repair_at, manager.next_keep_alive()].into_iter().flatten();
            let due = others.fold(next_poll.min(timer.next()), Instant::min);
            match self.wait(due, &mut worker, signals)? {
                Event::Stop => break None,
                Event::WorkerEnded(ended) => break Some(ended),
                Event::Changed => next_poll = next_poll.min(Instant::now() + SETTLE),
                Event::Drifted => self.repair_at = Some(self.pace.due(Instant::now())),
                // What it says is to be as of now.
                Event::StatsAsked => (next_poll, stats_asked) = (Instant::now(), true),
                Event::Due => {
                    next_poll = Instant::now() + POLL_INTERVAL;
                    // First, since all else may wait a second for a full quarantine to be listed.
                    let repaired = match self.repair_at {
                        Some(at) if at <= Instant::now() => self.repair(),
                        _ => Ok(()),
                    };
                    if let Err(error) = repaired.and_then(|()| self.poll_host()) {
                        self.complaints.say(&error.to_string());
                    }
                    if timer.is_due(Instant::now()) || std::mem::take(&mut stats_asked) {
                        let stats = self.stats();
                        worker.report(stats);
                    }
                }
            }
        };
        if ended.is_none() {
            // From now on the worker writes no `stats` record until it has written all probes.
            worker.ask_to_stop();
        }
        if let Err(error) = self.table.served().map(|served| self.facts.served = served) {
            self.complaints.say(&error.to_string());
        }
        self.save_served(ServedFile::save_now);
        // Before the worker ends, so that it still reads whatever the rules log.
        self.read_counters();
        let deleted = self.delete();
        let stats = self.stats();
        worker.report(stats);
        let ended = ended.unwrap_or_else(|| worker.end());
        self.complaints.say(&self.counters.summary());
        deleted?;
        match ended {
            Ended::Well => Ok(()),
            Ended::OutputGone => Err(TrapError::OutputGone),
            Ended::Badly(how) => Err(TrapError::WorkerEnded(how)),
        }
    }

    /// Waits for something to happen, until `deadline` at most.
    fn wait(
        &mut self,
        deadline: Instant,
        worker: &mut WorkerProcess,
        signals: &Signals,
    ) -> Result<Event, TrapError> {
        loop {
            // What was read now, or while rules were loaded.
            if self.drift.is_pending() && self.repair_at.is_none() {
                return Ok(Event::Drifted);
            }
            let timeout = deadline.saturating_duration_since(Instant::now());
            if timeout.is_zero() {
                return Ok(Event::Due);
            }
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(worker.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.route_changes.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.table_changes.as_fd(), PollFlags::POLLIN),
            ];
            // Rounded up, so that waiting for a moment never spins just before it.
            let millis = u16::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            match poll(&mut fds, PollTimeout::from(millis)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(TrapError::System("wait", errno.into())),
            }
            let [signal, ended, routes, tables] = fds.map(|fd| fd.any().unwrap_or(true));
            match signal.then(|| signals.request()).flatten() {
                Some(Request::Stop(_)) => return Ok(Event::Stop),
                Some(Request::Report) => return Ok(Event::StatsAsked),
                Some(Request::Reload) | None => {}
            }
            if ended {
                return Ok(Event::WorkerEnded(worker.end()));
            }
            let mut changed = false;
            if routes {
                let heard = self.route_changes.receive(|_, _| changed = true)?;
                changed |= heard.lost;
            }
            if changed {
                return Ok(Event::Changed);
            }
            if tables {
                self.read_drift()?;
            }
        }
    }

    /// Updates the rules to the host's facts.
    fn poll_host(&mut self) -> Result<(), TrapError> {
        if let Err(error) = self.ports.follow() {
            self.complaints.say(&format!("{error}; what it said before still holds"));
        }
        let there = self.read_counters();
        if !there {
            let now = Instant::now();
            self.repair_at.get_or_insert(self.pace.due(now));
            return Ok(());
        }
        let served = self.table.served()?;
        let listening = self.recent_ports.update(Instant::now(), &sockets::look()?);
        let facts = HostFacts::read(listening, served, self.ports.table().clone())?;
        self.apply(&ruleset::update(&self.facts, &facts))?;
        self.facts = facts;
        self.save_served(|file, served| file.save(Instant::now(), served));
        Ok(())
    }

    /// Writes which ports are served to the file of `--state`, if there is one.
    fn save_served(&mut self, save: impl FnOnce(&mut ServedFile, &Listening) -> io::Result<()>) {
        let Some(file) = &mut self.served_file else { return };
        if let Err(error) = save(file, &self.facts.all_served()) {
            self.complaints.say(&format!("cannot write {}: {error}", file.path().display()));
        }
    }

    /// Adds what the rules counted since the last time; `false`: the table is gone.
    fn read_counters(&mut self) -> bool {
        let new = match self.table.take_counters() {
            Ok(Some(new)) => new,
            Ok(None) => return false,
            Err(error) => {
                self.complaints.say(&error.to_string());
                return true;
            }
        };
        self.counters = self.counters.plus(new);
        if let Some(sentence) = self.full_quarantine.update(Instant::now(), &new) {
            self.complaints.say(&sentence);
        }
        if new.over_rate > 0 {
            self.complaints
                .say(&format!("{} packets were beyond --rate and were not logged one by one", new.over_rate));
        }
        true
    }

    /// The monitor's part of a `stats` record. Where the kernel does not list the networks, it says nothing of them.
    fn stats(&mut self) -> StatsBody {
        let networks = rtnetlink::read();
        if let Err(error) = &networks {
            self.complaints.say(&error.to_string());
        }
        let machine = networks.ok().map(|networks| machine(&networks, self.facts.client_ports));
        let counters = self.counters.named().into_iter().chain([("repairs", self.repairs)]);
        StatsBody { machine, ..StatsBody::new("trap", counters) }
    }

    /// Deletes the rules, once.
    fn delete(&mut self) -> Result<(), TrapError> {
        if std::mem::take(&mut self.loaded) { self.table.delete() } else { Ok(()) }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.delete();
    }
}
