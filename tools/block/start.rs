//! How the work starts: backends are opened, what an earlier run left is compared with what is remembered, and each
//! backend gets its thread. All that is remembered is put back there before the first verdict is dealt with.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use psentry_stage::{Intake, Signals};

use crate::backend::{Backend, Block};
use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::extent::Extent;
use crate::inbox::Inbox;
use crate::ledger::Ledger;
use crate::left::Left;
use crate::memory::Memory;
use crate::report::Reporter;
use crate::run::{Hired, Stage};
use crate::surroundings::Guard;
use crate::worker::Worker;

/// Everything that reading verdicts takes, with a thread for each backend.
pub(crate) fn start(flags: &Flags, host: Option<String>) -> Result<Stage, Error> {
    let mut chosen = flags.chosen();
    if chosen.is_empty() {
        chosen.push(Which::Nft);
    }
    backends::fit(&chosen, flags)?;
    // Before the first thread, so that every thread leaves signals to the main loop.
    let signals = Signals::catch().map_err(|errno| Error::system("catch signals")(errno.into()))?;
    let reporter = Arc::new(Reporter::stdout(host, signals.as_fd())?);
    let intake = Intake::stdin(signals).map_err(|why| Error::Input(Arc::new(why)))?;
    let mut opened = Vec::new();
    for which in chosen {
        opened.push((which, backends::open(which, flags)?));
    }
    let (ledger, guard) = (Ledger::new(flags.max_blocks).shutting(Extent::of(flags).ports), Guard::default());
    let (workers, most, pass) = (Vec::new(), flags.max_blocks, flags.pass);
    let mut stage = Stage { intake, reporter, ledger, workers, guard, most, pass };
    for (which, backend) in opened {
        let hired = hire(&mut stage, flags, which, backend)?;
        stage.workers.push(hired);
    }
    Ok(stage)
}

/// A thread for a backend, with what an earlier run left.
fn hire(
    stage: &mut Stage,
    flags: &Flags,
    which: Which,
    mut backend: Box<dyn Backend>,
) -> Result<Hired, Error> {
    // What only says what it would do does nothing that could be remembered.
    let state = flags.state.as_deref().filter(|_| which != Which::DryRun);
    let opened = state.map(|state| Memory::open(state, which.name(), &stage.reporter)).transpose()?;
    let (mut memory, remembered) = opened.unzip();
    let mut left = Left::compare(backend.prepare()?, backend.unsure()?, remembered);
    let Stage { ledger, guard, reporter, .. } = stage;
    let unsure = left.unsure.iter().map(|entry| (entry.scope, Block::from(entry)));
    for (scope, block) in left.found.iter().map(|(entry, block)| (entry.scope, block.clone())).chain(unsure) {
        match guard.refusal(scope)? {
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
    }
    left.missing = missing;
    let inbox = Arc::new(Inbox::new()?);
    let name = backend.name();
    let worker = Worker::new(backend, left, memory, Arc::clone(&inbox), Arc::clone(reporter));
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || worker.run())
        .map_err(Error::system("start a thread"))?;
    Ok(Hired { name, inbox, thread })
}
