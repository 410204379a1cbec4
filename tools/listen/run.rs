//! The whole program: opens the decoys, runs the loop, prints the counters.

use std::io;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use psentry_stage::{Complaints, Output, Signals, Watchdog, host_name, report_ready, speak};

use crate::bind::{self, Opened};
use crate::event_loop::EventLoop;
use crate::handler::Handler;
use crate::poller::{Poller, Token};
use crate::recorder::Recorder;
use crate::settings::Settings;
use crate::{Flags, ListenError, ready, socket_activation};

/// How many descriptors are left for connections when there are more ports than descriptors.
const SPARE: usize = 8;

/// The whole program, after its flags are read.
///
/// # Errors
/// [`ListenError`]; SIGTERM and SIGINT are no errors.
pub fn run(flags: Flags) -> Result<(), ListenError> {
    let check = flags.check;
    let settings = Settings::from_flags(flags)?;
    if check {
        return Ok(());
    }
    let mut complaints = Complaints::new("psentry-listen");
    let mut decoys = socket_activation::take(&mut complaints);
    raise_descriptor_limit();

    let signals = Signals::catch_requests(false)
        .map_err(|errno| ListenError::System("wait for signals", errno.into()))?;
    let mut output = Output::stdout("psentry-listen").map_err(ListenError::Output)?;
    let poller = Poller::new().map_err(|error| ListenError::System("wait for events", error))?;
    poller
        .add(signals.stop(), Token::Stop)
        .and_then(|()| signals.requests().map_or(Ok(()), |requests| poller.add(requests, Token::Report)))
        .and_then(|()| poller.add_for_errors(io::stdout(), Token::Reader))
        .map_err(|error| ListenError::System("wait for events", error))?;

    let spare: Vec<_> = (0..SPARE).map_while(|_| signals.as_fd().try_clone_to_owned().ok()).collect();
    let Opened { decoys: mut bound, lacked_rights } = bind::open(&settings, &mut complaints);
    drop(spare);
    decoys.append(&mut bound);
    if decoys.is_empty() {
        let asked = !settings.tcp.is_empty() || !settings.udp.is_empty() || settings.mirage.is_some();
        return Err(match (asked, lacked_rights) {
            (_, true) => ListenError::NoRight,
            (true, false) => ListenError::NoneLeft,
            (false, false) => ListenError::NoSockets,
        });
    }

    let ready = ready::sentence(&decoys);
    if let Err(why) = report_ready("psentry-listen", Some(&format!("Listening: {ready}"))) {
        complaints.say(&why);
    }
    let watchdog = Watchdog::of_service();
    speak(&format!("psentry-listen: ready: {ready}"));
    let host = settings.host.or_else(host_name);
    let recorder = Recorder::new(host, settings.rate, settings.source_rate, |record: &_| {
        watchdog.await_reader(io::stdout().as_fd(), signals.stop())?;
        output.write_unless(signals.stop(), record)?;
        Ok(output.lost())
    });
    let handler = Handler::new(settings.handling, &decoys, recorder, complaints);
    let mut event_loop = EventLoop::new(poller, decoys, handler)?;
    let result = event_loop.run(&watchdog, &signals);
    speak(&format!("psentry-listen: {}", event_loop.summary()));
    result
}

/// As many descriptors as may be had: a thousand ports alone need more than the usual 1024. Where a sandbox forbids
/// to ask, there are as many as systemd gave.
fn raise_descriptor_limit() {
    let _ = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
}
