//! The monitor: loads the rules, keeps them up to date, deletes them. It has the privilege to, and so it reads nothing
//! that a stranger wrote, and nothing from the worker: only what the kernel says of this machine, files of the
//! administrator's, and what those ask whom the control socket lets in.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_control::{Closing, Server};
use psentry_linux::{NetlinkMonitor, netlink_monitor};
use psentry_records::{Timestamp, Vouch};
use psentry_stage::panic_file::PanicFile;
use psentry_stage::{
    Complaints, FileWatch, Request, Signals, StatsTimer, Watchdog, counted, report_ready, report_status,
};

use crate::config_files::ConfigFiles;
use crate::confirm::Confirm;
use crate::counters::KernelCounters;
use crate::drift::{self, RepairPace, RuleMonitor};
use crate::familiar::Familiar;
use crate::full_quarantine::FullQuarantine;
use crate::host_facts::{HostFacts, RecentPorts};
use crate::panic_watch::PanicWatch;
use crate::quarantine::{Quarantine, newly_allowed};
use crate::ready::ready_sentence;
use crate::served_file::ServedFile;
use crate::settings::Settings;
use crate::sockets::Listening;
use crate::table::Table;
use crate::vouch_input::VouchInput;
use crate::vouched::Vouched;
use crate::worker_process::{Ended, WorkerProcess};
use crate::{TrapError, ruleset, sockets};

mod questions;
mod rules;
mod stats;
mod vouching;

use vouching::Lines;

/// How often the host's facts and the table are polled. Netlink reports most changes, but none of sockets.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// How soon after a notification they are polled: several changes often come together.
const SETTLE: Duration = Duration::from_millis(100);

/// The owner of the rules in the kernel. They are deleted when it is dropped, even in a panic.
pub(crate) struct Monitor {
    table: Table,
    settings: Settings,
    recent_ports: RecentPorts,
    files: ConfigFiles,
    /// What tells that they have changed; without it they are polled.
    file_changes: Option<FileWatch>,
    served_file: Option<ServedFile>,
    /// Who is familiar at the veil; `None`: there is none.
    familiar: Option<Familiar>,
    /// Whom vouches let to hidden ports.
    vouched: Vouched,
    /// Where vouches come from; `None`: from nowhere, or not any more.
    vouches: Option<VouchInput>,
    /// Vouches that are to be passed on: those of one read at most, since no other is read until the worker had room for them.
    unpassed: VecDeque<Vouch>,
    /// How many vouches and other lines were read.
    lines: Lines,
    /// Whether hidden and veiled ports are to be confirmed; `None`: they are not.
    confirm: Option<Confirm>,
    facts: HostFacts,
    route_changes: NetlinkMonitor,
    rule_changes: RuleMonitor,
    pace: RepairPace,
    /// When the rules are to be loaded again, because somebody changed them.
    repair_at: Option<Instant>,
    /// How often they were.
    repairs: u64,
    panic: PanicWatch,
    /// How many panics were heeded.
    panics: u64,
    /// What the rules counted from the start, also those that others deleted.
    counters: KernelCounters,
    quarantine: Quarantine,
    full_quarantine: FullQuarantine,
    /// Where people ask; `None`: nowhere.
    control: Option<Server>,
    complaints: Complaints,
    loaded: bool,
}

/// Why the waiting ended.
enum Event {
    Stop,
    /// SIGUSR1 asks for a `stats` record.
    StatsAsked,
    WorkerEnded(Ended),
    /// Somebody changed addresses, routes, or a file.
    Changed,
    /// Somebody else changed the rules.
    Drifted,
    /// A panic may have begun, or be over.
    Panic,
    /// Somebody asks something.
    Asked,
    /// Somebody may vouch for somebody.
    Vouched,
    /// The time is over.
    Due,
}

impl Monitor {
    /// Loads the rules.
    ///
    /// # Errors
    /// nft is missing, or the kernel does not take them.
    pub(crate) fn new(
        settings: Settings,
        files: ConfigFiles,
        control: Option<Server>,
    ) -> Result<Self, TrapError> {
        let table = Table::new()?;
        let file_changes = files.watch();
        // First the subscription, so that no change falls between it and the facts.
        let groups = [
            netlink_monitor::RTNLGRP_IPV4_IFADDR,
            netlink_monitor::RTNLGRP_IPV6_IFADDR,
            netlink_monitor::RTNLGRP_IPV4_ROUTE,
            netlink_monitor::RTNLGRP_IPV6_ROUTE,
        ];
        let route_changes = NetlinkMonitor::open(NETLINK_ROUTE, &groups)?;
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
        let mut vouched = vouching::vouched(&settings, &mut complaints);
        let sources = vouched.at(Timestamp::now());
        let facts = HostFacts::read(listening, Listening::default(), &settings.hide, sources, &files)?;
        let rule_changes = drift::watch(ruleset::filled_sets(&facts))?;
        let panic = PanicWatch::open(PanicFile::default(), now);
        let familiar =
            if settings.veil.is_empty() { None } else { Some(familiar(&settings, now, &mut complaints)?) };
        let confirm =
            settings.confirm.filter(|_| !settings.observe && !settings.hidden_or_veiled().is_empty());
        let confirm =
            confirm.map(|span| vouching::begin(&settings, span, now, &mut complaints)).transpose()?;
        let mut monitor = Monitor {
            table,
            settings,
            recent_ports,
            files,
            file_changes: file_changes.ok(),
            served_file,
            familiar,
            vouched,
            vouches: VouchInput::stdin()?,
            unpassed: VecDeque::new(),
            lines: Lines::default(),
            confirm,
            pace: RepairPace::default(),
            repair_at: None,
            repairs: 0,
            panics: panic.holds().is_some().into(),
            panic,
            facts,
            route_changes,
            rule_changes,
            counters: KernelCounters::default(),
            quarantine: Quarantine::open()?,
            full_quarantine: FullQuarantine::default(),
            control,
            complaints,
            loaded: false,
        };
        monitor.load()?;
        Ok(monitor)
    }

    /// Keeps the rules up to date until somebody asks to stop, or the worker ends.
    ///
    /// # Errors
    /// The worker ended on its own, or the rules could not be deleted.
    pub(crate) fn run(mut self, mut worker: WorkerProcess, signals: &Signals) -> Result<(), TrapError> {
        let mut next_poll = Instant::now() + POLL_INTERVAL;
        let mut timer = StatsTimer::start(Instant::now());
        let mut stats_asked = false;
        self.heed_panic();
        let sentence = self.status();
        self.complaints.say(&sentence);
        if let Err(why) = report_ready("psentry-trap", Some(&sentence)) {
            self.complaints.say(&why);
        }
        let watchdog = Watchdog::of_service();
        // The judge is to know the networks of this machine before it judges anybody near.
        let stats = self.stats();
        worker.report(stats);
        let ended = loop {
            watchdog.keep_alive(Instant::now());
            self.pass_on(&mut worker);
            let confirmed_by = self.confirm.as_ref().and_then(Confirm::deadline);
            let others = [self.repair_at, watchdog.next(), confirmed_by].into_iter().flatten();
            let due = others.fold(next_poll.min(timer.next()), Instant::min);
            let again = self.unpassed.front().map(|_| Instant::now() + SETTLE);
            match self.wait(again.map_or(due, |again| again.min(due)), &mut worker, signals)? {
                // Only a vouch is to be passed on.
                Event::Due if Instant::now() < due => {}
                Event::Stop => break None,
                Event::WorkerEnded(ended) => break Some(ended),
                Event::Changed => next_poll = next_poll.min(Instant::now() + SETTLE),
                Event::Panic => self.follow_panic(),
                Event::Asked => self.answer_questions(),
                Event::Vouched => self.heed_vouches(&mut worker),
                Event::Drifted => self.repair_at = Some(self.pace.due(Instant::now())),
                // What it says is to be as of now.
                Event::StatsAsked => (next_poll, stats_asked) = (Instant::now(), true),
                Event::Due => {
                    next_poll = Instant::now() + POLL_INTERVAL;
                    // Also if nothing reported it: a directory may have been mounted.
                    self.follow_panic();
                    // First, since all else may wait a second for a full quarantine to be listed.
                    let repaired = match self.repair_at {
                        Some(at) if at <= Instant::now() => self.repair(),
                        _ => Ok(()),
                    };
                    self.expire_confirm();
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
        self.pass_on(&mut worker);
        let lost = self.unpassed.len() as u64;
        if lost > 0 {
            let vouches = counted(lost, "vouch was", "vouches were");
            self.complaints.say(&format!("{vouches} not passed on: nobody reads what psentry-trap writes"));
        }
        // Whoever asks from here on finds nobody, and knows it.
        let closing = self.control.take().map(Server::close);
        if ended.is_none() {
            // From now on the worker writes no `stats` record until it has written all probes.
            worker.ask_to_stop();
        }
        if let Err(error) = self.table.served().map(|served| self.facts.served = served) {
            self.complaints.say(&error.to_string());
        }
        self.save_served(ServedFile::save_now);
        // Before the worker ends, so that it still reads whatever the rules log.
        let there = self.read_counters();
        // Of a table that is gone nobody is familiar, and the file has who was.
        if let Some(Err(why)) = self.familiar.as_mut().filter(|_| there).map(Familiar::save_now) {
            self.complaints.say(&why);
        }
        let deleted = self.delete();
        let stats = self.stats();
        worker.report(stats);
        let ended = ended.unwrap_or_else(|| worker.end());
        self.complaints.say(&self.counters.summary());
        closing.iter().for_each(Closing::wait);
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
            if self.rule_changes.is_pending() && self.repair_at.is_none() {
                return Ok(Event::Drifted);
            }
            let now = Instant::now();
            let look = self.panic.next_look().unwrap_or(deadline);
            if look <= now && look < deadline {
                return Ok(Event::Panic);
            }
            let timeout = deadline.min(look).saturating_duration_since(now);
            if timeout.is_zero() {
                return Ok(Event::Due);
            }
            let fds =
                [signals.as_fd(), worker.as_fd(), self.route_changes.as_fd(), self.rule_changes.as_fd()];
            let files = self.file_changes.as_ref().map(AsFd::as_fd);
            let watched = files.is_some();
            let control = self.control.as_ref().map(AsFd::as_fd);
            let is_open = control.is_some();
            let vouches = self.vouches.as_ref().filter(|_| self.unpassed.is_empty()).map(VouchInput::as_fd);
            let is_read = vouches.is_some();
            let fds = fds.into_iter().chain(files).chain(control).chain(vouches).chain(self.panic.as_fd());
            let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            // Rounded up, so that waiting for a moment never spins just before it.
            let millis = u16::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            match poll(&mut fds, PollTimeout::from(millis)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(TrapError::System("wait", errno.into())),
            }
            let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
            let [signal, ended, routes, tables] = std::array::from_fn(|_| ready.next().unwrap_or(false));
            let files = watched && ready.next().unwrap_or(false);
            let asked = is_open && ready.next().unwrap_or(false);
            let vouched = is_read && ready.next().unwrap_or(false);
            let panic = ready.next().unwrap_or(false);
            match signal.then(|| signals.request()).flatten() {
                Some(Request::Stop(_)) => return Ok(Event::Stop),
                Some(Request::Report) => return Ok(Event::StatsAsked),
                Some(Request::Reload) | None => {}
            }
            if ended {
                return Ok(Event::WorkerEnded(worker.end()));
            }
            if panic {
                return Ok(Event::Panic);
            }
            if asked {
                return Ok(Event::Asked);
            }
            if vouched {
                return Ok(Event::Vouched);
            }
            let mut changed = files && self.file_changes.as_mut().is_some_and(FileWatch::changed);
            if routes {
                let heard = self.route_changes.receive(|_, _| changed = true)?;
                changed |= heard.lost;
            }
            if changed {
                return Ok(Event::Changed);
            }
            if tables {
                self.rule_changes.read()?;
            }
        }
    }

    /// Looks whether a panic began or is over, and tells the service manager.
    fn follow_panic(&mut self) {
        if self.heed_panic() {
            report_status(&self.status());
        }
    }

    /// What is trapped, and that a panic holds.
    fn status(&self) -> String {
        let ready = ready_sentence(&self.settings);
        let status = match self.panic.holds() {
            Some(order) => format!("{ready}; {}", rules::panic_sentence(order)),
            None => ready,
        };
        let unconfirmed = self.confirm.as_ref().and_then(Confirm::expired);
        let wrong: Vec<String> = self.files.wrong().into_iter().chain(unconfirmed).collect();
        if wrong.is_empty() { status } else { format!("degraded: {}; {status}", wrong.join("; ")) }
    }

    /// Updates the rules to the host's facts.
    fn poll_host(&mut self) -> Result<(), TrapError> {
        if self.files.follow() {
            for sentence in self.files.wrong() {
                self.complaints.say(&sentence);
            }
            report_status(&self.status());
        }
        let there = self.read_counters();
        if !there {
            let now = Instant::now();
            self.repair_at.get_or_insert(self.pace.due(now));
            return Ok(());
        }
        let served = self.table.served()?;
        let listening = self.recent_ports.update(Instant::now(), &sockets::look()?);
        let vouched = self.vouched.at(Timestamp::now());
        let facts = HostFacts::read(listening, served, &self.settings.hide, vouched, &self.files)?;
        self.apply(&ruleset::update(&self.settings, &self.facts, &facts))?;
        let allowed = newly_allowed(&self.facts.allow, &facts.allow);
        self.facts = facts;
        // Their packets pass anyway; so that nobody is told that they are in quarantine, and they are out should they leave
        // --allow soon.
        self.quarantine.release(&allowed)?;
        self.save_served(|file, served| file.save(Instant::now(), served));
        if let Some(Err(why)) = self.familiar.as_mut().map(|familiar| familiar.save(Instant::now())) {
            self.complaints.say(&why);
        }
        Ok(())
    }

    /// Writes which ports are served to the file of `--state`, if there is one.
    fn save_served(&mut self, save: impl FnOnce(&mut ServedFile, &Listening) -> io::Result<()>) {
        let Some(file) = &mut self.served_file else { return };
        if let Err(error) = save(file, &self.facts.all_served()) {
            self.complaints.say(&format!("cannot write {}: {error}", file.path().display()));
        }
    }

    /// Deletes the rules, once.
    fn delete(&mut self) -> Result<(), TrapError> {
        if std::mem::take(&mut self.loaded) { self.table.delete() } else { Ok(()) }
    }
}

/// Who was familiar before, and whoever is connected to a veiled port.
fn familiar(settings: &Settings, now: Instant, complaints: &mut Complaints) -> Result<Familiar, TrapError> {
    let (mut familiar, unread) = Familiar::open(settings.state.as_deref(), now)?;
    if let Some(error) = unread {
        complaints.say(&format!("cannot read who is familiar: {error}; clients wait a second once more"));
    }
    if let Err(error) = familiar.add_connected(&settings.veil, settings.familiar) {
        complaints.say(&error.to_string());
    }
    Ok(familiar)
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.delete();
    }
}
