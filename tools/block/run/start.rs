//! How the work starts: backends are opened, what an earlier run left is compared with what is remembered, and each
//! backend gets its thread. All that is remembered is put back there before the first verdict is dealt with.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use psentry_stage::{Intake, Signals, StatsTimer, counted, parse_ports};

use crate::backend::{Backend, Block};
use crate::backends;
use crate::cli::{Flags, Which};
use crate::control::Control;
use crate::error::Error;
use crate::extent::Extent;
use crate::guard::allow::Allow;
use crate::guard::surroundings::Guard;
use crate::inbox::Inbox;
use crate::ledger::Ledger;
use crate::memory::Memory;
use crate::memory::left::Left;
use crate::panic::Panic;
use crate::report::Reporter;
use crate::run::brake::Brake;
use crate::run::ready::Ready;
use crate::run::room::{Gone, Room};
use crate::run::{Hired, Stage};
use crate::sink::Sink;
use crate::watchdog::{self, Pulse};
use crate::worker::Worker;

/// Everything that reading verdicts takes, with a thread for each backend.
pub(crate) fn start(flags: &Flags, host: Option<String>) -> Result<Stage, Error> {
    let mut chosen = flags.chosen();
    if chosen.is_empty() {
        chosen.push(Which::Nft);
    }
    backends::fit(&chosen, flags)?;
    let guard = guard(flags)?;
    // Whoever is connected by now may have been for long.
    guard.glance();
    // Before the first thread, so that every thread leaves signals to the main loop.
    let signals =
        Signals::catch_requests(false).map_err(|errno| Error::system("catch signals")(errno.into()))?;
    let log = Sink::log(flags)?;
    let logs = log.is_some();
    let reporter = Arc::new(match log {
        Some(log) => Reporter::to(log, host, signals.stop())?,
        None => Reporter::stdout(host, signals.stop())?,
    });
    let control = match &flags.control {
        Some(path) => Some(Control::listen(path, flags.control_mode)?),
        None => None,
    };
    let mut intake = Intake::stdin(signals).map_err(|why| Error::Input(Arc::new(why)))?;
    if logs {
        intake.ignore_output();
    }
    if let Some(control) = &control {
        intake.heed_bell(control.bell()?);
    }
    let mut opened = Vec::new();
    for which in chosen {
        opened.push((which, backends::open(which, flags)?));
    }
    let ledger = Ledger::new(flags.max_blocks).shutting(Extent::of(flags).ports);
    let (ledger, brake) = (ledger, flags.brake.map(Brake::new));
    let (workers, most, pass, allowed) = (Vec::new(), flags.max_blocks, flags.pass, 0);
    let (panic, over, room) = (Panic::of(flags), false, Room::default());
    // Before anything is read of what was blocked: a panic from here on counts for it.
    let mark = panic.mark();
    let mut stage = Stage {
        intake,
        reporter,
        ledger,
        workers,
        guard,
        allowed,
        brake,
        most,
        room,
        gone: Gone::default(),
        pass,
        control,
        over,
        panic,
        mark,
        stats: StatsTimer::start(Instant::now()),
        pulse: Pulse::default(),
    };
    // A command takes as long as it likes, and no boot waits for that. One more: this start itself.
    let waited_for = |which: Which| which != Which::Exec;
    let ready =
        Ready::after(opened.iter().filter(|(which, _)| waited_for(*which)).count() + 1, &stage.reporter);
    for (which, backend) in opened {
        let ready = waited_for(which).then(|| Arc::clone(&ready));
        let hired = hire(&mut stage, flags, which, backend, ready)?;
        stage.workers.push(hired);
    }
    if let Some(path) = &flags.control {
        stage.reporter.tell(&format!("{}: psentry-block may be asked here", path.display()));
    }
    let pulses = stage.workers.iter().map(|worker| &worker.pulse).chain([&stage.pulse]).cloned().collect();
    let reporter = Arc::clone(&stage.reporter);
    watchdog::start(pulses, move || reporter.awaits_reader())?;
    let names: Vec<&str> = stage.workers.iter().map(|worker| worker.name).collect();
    let backends = if names.len() == 1 { "backend" } else { "backends" };
    let blocks = counted(u64::try_from(stage.ledger.len()).unwrap_or(u64::MAX), "block", "blocks");
    ready.say(format!("ready: {backends} {}, {blocks} from before", names.join(", ")));
    ready.done();
    Ok(stage)
}

/// The guard that these flags describe.
///
/// # Errors
/// Which flag, or which line of its file, cannot be used.
pub(crate) fn guard(flags: &Flags) -> Result<Guard, Error> {
    let ports =
        parse_ports(&flags.login_ports).map_err(|why| Error::Usage(format!("--login-ports: {why}")))?;
    let allow = Allow::read(&flags.allow).map_err(|why| Error::Config(format!("--allow: {why}")))?;
    Ok(Guard::new(ports, flags.login_grace, allow))
}

/// A thread for a backend, with what an earlier run left.
fn hire(
    stage: &mut Stage,
    flags: &Flags,
    which: Which,
    mut backend: Box<dyn Backend>,
    ready: Option<Arc<Ready>>,
) -> Result<Hired, Error> {
    // What only says what it would do does nothing that could be remembered.
    let state = flags.state.as_deref().filter(|_| which != Which::DryRun);
    let opened = state.map(|state| Memory::open(state, which.name(), &stage.reporter)).transpose()?;
    let (mut memory, remembered) = opened.unzip();
    let mut left = Left::compare(backend.prepare()?, backend.unsure()?, remembered);
    let Stage { ledger, guard, reporter, panic, mark, room, .. } = stage;
    let held = panic.holds().map(|order| order.sentence());
    if let Some(why) = &held {
        reporter.tell(&format!("{}: {why}", which.name()));
        for scope in left.forget() {
            memory.iter_mut().for_each(|memory| memory.note(scope, None));
        }
    }
    let unsure = left.unsure.iter().map(|entry| (entry.scope, Block::from(entry)));
    for (scope, block) in left.found.iter().map(|(entry, block)| (entry.scope, block.clone())).chain(unsure) {
        let why = held.clone().map_or_else(|| guard.refusal(scope), |why| Ok(Some(why)))?;
        match why {
            Some(why) => left.unwanted.push((scope, why)),
            None => ledger.adopt(scope, &block),
        }
    }
    let remembered = left.missing.len();
    let mut missing = Vec::with_capacity(remembered);
    for (scope, block) in left.missing {
        let fits = match guard.refusal(scope)? {
            Some(why) => {
                left.unwanted.push((scope, why));
                true
            }
            None => ledger.recall(scope, &block),
        };
        if fits {
            missing.push((scope, block));
        } else if let Some(memory) = &mut memory {
            memory.note(scope, None);
        }
    }
    if missing.len() < remembered {
        let over = remembered - missing.len();
        reporter.tell(&format!(
            "{}: {over} of {remembered} remembered blocks are not put back: they are more than --max-blocks {} allows",
            which.name(),
            flags.max_blocks
        ));
        room.turned_down(over, Instant::now());
    }
    left.missing = missing;
    let inbox = Arc::new(Inbox::new()?);
    let (name, spares) = (backend.name(), backend.spares());
    let (inbox_too, reporter) = (Arc::clone(&inbox), Arc::clone(reporter));
    let mut worker = Worker::new(backend, left, memory, inbox_too, guard.clone(), reporter);
    worker.heed(panic.clone(), *mark);
    let pulse = worker.pulse();
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || worker.run(ready.as_deref()))
        .map_err(Error::system("start a thread"))?;
    Ok(Hired { name, spares, inbox, thread, pulse })
}
