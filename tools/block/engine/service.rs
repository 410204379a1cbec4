//! The loop of a running psentry-block: verdicts from standard input and questions from the control socket go to the engine,
//! until the input ends or somebody asks to stop.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psentry_control::{Closing, Request, Server};
use psentry_records::Record;
use psentry_stage::{Intake, Next, Patience, Pulse, Signals, StatsTimer, Watchdog, counted, report_ready};

use super::start::Purpose;
use super::{Engine, Reply};
use crate::cli::Flags;
use crate::error::Error;
use crate::outcomes::{Sink, report};
use crate::settings;
use psentry_control::Question;

/// How many verdicts are taken before it is looked what else there is to do.
const TOGETHER: u32 = 64;
/// How often it is looked whether backends have less to do, while no verdicts are taken.
const BREATH: Duration = Duration::from_millis(50);

/// What runs.
struct Service {
    engine: Engine,
    intake: Intake,
    control: Option<Server>,
    /// Whether what is read is written, too.
    pass: bool,
    /// Whether nothing more is read.
    over: bool,
    ready: bool,
    started: Instant,
    restored: usize,
    stats: StatsTimer,
    pulse: Pulse,
}

/// Applies verdicts from standard input until it ends or somebody asks to stop.
///
/// # Errors
/// What ends it, with the exit code that goes with it.
pub(crate) fn serve(flags: &Flags, host: Option<String>) -> Result<(), Error> {
    Service::start(flags, host)?.run(flags.release)
}

impl Service {
    fn start(flags: &Flags, host: Option<String>) -> Result<Self, Error> {
        let started = Instant::now();
        let chosen = flags.chosen_or_nft();
        settings::fit(&chosen, flags)?;
        if flags.exec_roll.is_some() {
            report(
                "--exec-roll has no effect any more: what commands have blocked is in the journal; see --state",
            );
        }
        // Before the first thread, so that every thread leaves signals to this one.
        let signals =
            Signals::catch_requests(false).map_err(|errno| Error::system("catch signals")(errno.into()))?;
        let sink = Some(Sink::open(flags)?);
        let control =
            Server::listen_for("psentry-block", flags.control.as_deref(), flags.control_mode, report)?;
        let asked = signals.stop().try_clone_to_owned().map_err(Error::system("keep a descriptor"))?;
        let mut intake = Intake::stdin(signals).map_err(|why| Error::Input(Arc::new(why)))?;
        if flags.log.is_some() {
            intake.ignore_output();
        }
        let engine = Engine::start(flags, host, chosen, sink, asked.as_fd(), Purpose::Serve)?;
        engine.descriptors()?.into_iter().for_each(|descriptor| intake.heed_bell(descriptor));
        if let Some(control) = &control {
            intake.heed_bell(control.bell().map_err(Error::system("keep a descriptor"))?);
        }
        let pulse = Pulse::default();
        let pulses = engine.pulses().chain([pulse.clone()]).collect();
        let watched = Watchdog::of_service().follow(pulses, engine.outcomes.awaits_reader());
        watched.map_err(Error::system("start a thread"))?;
        let restored = engine.desired.len();
        let (pass, stats) = (flags.pass, StatsTimer::start(Instant::now()));
        Ok(Service {
            engine,
            intake,
            control,
            pass,
            over: false,
            ready: false,
            started,
            restored,
            stats,
            pulse,
        })
    }

    fn run(mut self, release: bool) -> Result<(), Error> {
        let came = self.read();
        self.over = true;
        self.engine.report_brake(true);
        // Whatever ended the reading, backends end in good order before it is told.
        let mut result = if matches!(came, Ok(true)) && !release { self.linger() } else { Ok(()) };
        // Whoever asks from here on finds nobody, and knows it.
        let closing = self.control.take().map(Server::close);
        self.pulse.wait();
        self.engine.outcomes.stop_waiting();
        let ended = if release { self.engine.purge_all() } else { self.engine.stop() };
        result = came.map(|_| ()).and(result).and(ended);
        let broken = self.engine.outcomes.broken();
        self.engine.finish();
        let broken = broken.or_else(|| self.engine.outcomes.broken());
        // What it left unanswered is refused.
        drop(self.engine);
        closing.iter().for_each(Closing::wait);
        match broken {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Reads to the end; `false`: somebody asked to stop.
    fn read(&mut self) -> Result<bool, Error> {
        let (mut taken, mut stopping) = (0, false);
        loop {
            if taken == 0 || taken >= TOGETHER || self.engine.is_behind() {
                taken = 0;
                self.step();
            }
            if let Some(error) = self.engine.outcomes.broken() {
                return Err(error);
            }
            // From here on nobody waits for a slow reader, least of all this loop.
            if matches!(self.intake.patience(), Patience::Grace) {
                self.engine.outcomes.stop_waiting();
            }
            let idle = self.idle_for();
            let next = if self.engine.is_behind() && !stopping {
                self.intake.linger(Some(idle.min(BREATH)))
            } else {
                self.intake.next(Some(if taken > 0 { Duration::ZERO } else { idle }))
            };
            match next.map_err(|why| Error::Input(Arc::new(why)))? {
                Next::Item(item) => {
                    taken += 1;
                    match item.record {
                        Ok(record) => {
                            if let Record::Verdict(verdict) = &record {
                                self.engine.verdict(verdict, None);
                            }
                            if self.pass {
                                let line = self.intake.raw().to_vec();
                                self.engine.outcomes.pass(record, line);
                            }
                        }
                        Err(malformed) => self.engine.outcomes.skipped(item.line, &malformed),
                    }
                }
                Next::Nothing => taken = 0,
                Next::ReaderGone => self.engine.outcomes.reader_gone(),
                Next::End => return Ok(true),
                // What waits in the pipe is taken, however much backends have to do.
                Next::Stop if !std::mem::replace(&mut stopping, true) && self.engine.is_behind() => {}
                Next::Stop => return Ok(false),
            }
        }
    }

    /// The input has ended: what failed is tried once more, and whatever only this program ends is waited for.
    fn linger(&mut self) -> Result<(), Error> {
        let result = self.engine.last_try();
        loop {
            self.step();
            if !self.engine.is_needed() || self.engine.outcomes.broken().is_some() {
                break;
            }
            match self.intake.linger(Some(self.idle_for())) {
                Ok(Next::Nothing) => {}
                Ok(Next::ReaderGone) => self.engine.outcomes.reader_gone(),
                _ => break,
            }
        }
        result
    }

    fn idle_for(&self) -> Duration {
        let stats = self.stats.next().saturating_duration_since(Instant::now());
        self.engine.idle_for().min(stats)
    }

    fn step(&mut self) {
        self.pulse.step();
        let requests = self.control.as_ref().map(Server::requests).unwrap_or_default();
        for request in requests {
            self.answer(request);
        }
        self.engine.step();
        self.engine.report_brake(false);
        if self.stats.is_due(Instant::now()) || self.intake.requests().report {
            self.engine.write_stats();
        }
        if !self.ready && self.engine.is_restored() {
            self.ready = true;
            let names: Vec<&str> = self.engine.backends.iter().map(|state| state.caps.name).collect();
            let backends = if names.len() == 1 { "backend" } else { "backends" };
            let blocks = counted(u64::try_from(self.restored).unwrap_or(u64::MAX), "block", "blocks");
            let took = self.started.elapsed().as_millis();
            if self.restored > 0 {
                report(&format!(
                    "put back {blocks} from before, as far as they were not there, within {took} ms"
                ));
            }
            report(&format!("ready: {backends} {}", names.join(", ")));
            // Whoever is ordered after psentry-block.service starts with everybody blocked who was.
            report_ready("psentry-block", Some(&self.engine.service_status()))
                .unwrap_or_else(|why| report(&why));
        }
        self.pulse.wait();
    }

    fn answer(&mut self, request: Request) {
        match request.question() {
            Some((Question::Verdict(_), answer)) if self.over => {
                answer.refuse("the input has ended: psentry-block only ends its blocks, and makes no more");
            }
            Some((question, answer)) => {
                self.engine.ask(question, Reply::new(move |lines| answer.send(lines)));
            }
            None => {}
        }
    }
}
