//! The guard, and what it saw of this machine last: addresses, gateways, resolvers and who is logged in are asked of the
//! kernel at the moment they matter. One guard serves the main loop and every backend.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use psentry_linux::{
    HostAddresses, Ports, Socket, Transport, connections, host_addresses, listening_sockets,
};
use psentry_ports::PORTS_FILE;
use psentry_records::{Ignore, Prefix};
use psentry_stage::parse_ports;

use crate::cli::Flags;
use crate::cpu_time::spent;
use crate::error::Error;
use crate::guard::allow::Allow;
use crate::guard::logind;
use crate::guard::refusal;
use crate::guard::sessions::{Sessions, Sight, Use};
use crate::guard::translators::Translators;

/// How long what was seen counts at most while there is much to ask, and for how many times as long as the processor took
/// to see it: so looking takes a fiftieth of the time, and more only where it takes longer than 20 ms. Once there was nothing more
/// to ask it may take a third, and what was seen is some milliseconds old at most.
const FRESH: Duration = Duration::from_secs(1);
const WORTH: u32 = 50;
const WORTH_LESS: u32 = 2;

/// How often it is looked who is connected when nobody asks, so that it is known how long a connection has stood.
const GLANCE: Duration = Duration::from_secs(20);

/// The ports of resolvers: plain, and over TLS or QUIC.
const NAMES: [u16; 2] = [53, 853];

/// The port of time servers.
const TIME: u16 = 123;

/// The guard, with what it saw last.
#[derive(Clone)]
pub(crate) struct Guard(Arc<Mutex<Seen>>);

struct Seen {
    around: Option<Fresh<HostAddresses>>,
    logins: Vec<RangeInclusive<u16>>,
    sessions: Sessions,
    looked: Option<Fresh<()>>,
    /// Why the kernel cannot tell who is connected.
    blind: Option<String>,
    allow: Allow,
    translators: Translators,
    /// What is to be told, each once.
    news: Vec<String>,
}

/// What was seen, when, how much of the processor's time it took to see, and for how many times as long it counts.
struct Fresh<T> {
    when: Instant,
    took: Duration,
    worth: u32,
    what: T,
}

impl<T> Fresh<T> {
    /// What `see` sees now, unless what was seen `before` still counts.
    fn or(before: Option<Self>, see: impl FnOnce() -> Result<T, Error>) -> Result<Self, Error> {
        let counts = |before: &Self| before.when.elapsed() < (before.took * before.worth).min(FRESH);
        match before.filter(counts) {
            Some(before) => Ok(before),
            None => {
                let when = Instant::now();
                let (what, took) = spent(see);
                Ok(Fresh { when, took, worth: WORTH, what: what? })
            }
        }
    }
}

impl Guard {
    /// The guard that these flags describe.
    ///
    /// # Errors
    /// Which flag, or which line of its file, cannot be used.
    pub(crate) fn of(flags: &Flags) -> Result<Self, Error> {
        let logins =
            parse_ports(&flags.login_ports).map_err(|why| Error::Usage(format!("--login-ports: {why}")))?;
        let allow = Allow::read(&flags.allow).map_err(|why| Error::Config(format!("--allow: {why}")))?;
        Ok(Guard::new(logins, flags.login_grace, allow))
    }

    /// Which ports are those of logins, how long a stranger may be connected to one, and whom never to block.
    pub(crate) fn new(logins: Vec<RangeInclusive<u16>>, grace: Duration, allow: Allow) -> Self {
        let (sessions, news) = (Sessions::new(grace), Vec::new());
        let translators = Translators::of(PathBuf::from(PORTS_FILE));
        let seen =
            Seen { around: None, logins, sessions, looked: None, blind: None, allow, translators, news };
        Guard(Arc::new(Mutex::new(seen)))
    }

    /// Why `scope` must not be blocked; `None`: it may.
    ///
    /// # Errors
    /// When the kernel does not answer: then nothing may be blocked.
    pub(crate) fn refusal(&self, scope: Prefix) -> Result<Option<String>, Error> {
        let mut seen = self.lock();
        seen.renew();
        let around = Fresh::or(seen.around.take(), || Ok(host_addresses()?))?;
        let around = seen.around.insert(around);
        let why = refusal(scope, &around.what);
        Ok(why.or_else(|| seen.translators.refusal(scope)).or_else(|| seen.allow.refusal(scope)))
    }

    /// Why `scope` must not be blocked yet, because somebody is logged in from there; `None`: it may.
    ///
    /// # Errors
    /// When the kernel does not answer: then nothing may be blocked.
    pub(crate) fn not_yet(&self, scope: Prefix) -> Result<Option<String>, Error> {
        let mut seen = self.lock();
        let when = seen.look()?;
        Ok(seen.sessions.refusal(scope, when))
    }

    /// There is nothing more to ask for now: what was seen counts hardly any longer.
    pub(crate) fn rest(&self) {
        let mut seen = self.lock();
        if let Some(around) = &mut seen.around {
            around.worth = WORTH_LESS;
        }
        seen.age();
    }

    /// Takes a look at who is connected if it is time, so that it is known later how long they have been.
    pub(crate) fn glance(&self) {
        let mut seen = self.lock();
        if seen.looked.as_ref().is_none_or(|looked| looked.when.elapsed() >= GLANCE) {
            // Whoever asks next looks himself, and is told.
            let _ = seen.look();
            seen.age();
        }
    }

    /// Whom never to block, if that has changed since the version that the caller `knows`.
    pub(crate) fn allowed_anew(&self, knows: &mut u64) -> Option<Arc<Ignore>> {
        let mut seen = self.lock();
        seen.renew();
        let version = seen.allow.version();
        (std::mem::replace(knows, version) != version).then(|| Arc::clone(seen.allow.list()))
    }

    /// Whether whom never to block may change.
    pub(crate) fn may_change(&self) -> bool {
        self.lock().allow.may_change()
    }

    /// What is to be told.
    pub(crate) fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().news)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whom never to block, and which prefixes are translators', as the files have it now.
    fn renew(&mut self) {
        if let Err(error) = self.allow.renew() {
            self.news.push(format!("--allow: {error}; what was read before stays"));
        }
        if let Err(error) = self.translators.renew() {
            self.news.push(format!("{error}; what was read before stays"));
        }
    }

    /// Who is connected is soon to be looked at anew.
    fn age(&mut self) {
        if let Some(looked) = &mut self.looked {
            looked.worth = WORTH_LESS;
        }
    }

    /// Looks who is connected, unless that is known; when it was seen.
    fn look(&mut self) -> Result<Instant, Error> {
        let mut sight = None;
        let (logins, blind) = (&self.logins, &mut self.blind);
        let looked = Fresh::or(self.looked.take(), || {
            let seen = in_use(logins)?;
            let why = seen.as_ref().err().cloned();
            if let Some(why) = why.as_ref().filter(|why| blind.as_ref() != Some(why)) {
                self.news.push(format!(
                    "the kernel does not tell who is connected ({why}): whom --allow does not name is blocked even \
                     while he is logged in"
                ));
            }
            *blind = why;
            let record = logind::remote_addresses(Path::new(logind::RUN));
            sight = Some(Sight { connections: seen.unwrap_or_default(), record });
            Ok(())
        })?;
        let when = looked.when;
        self.looked = Some(looked);
        if let Some(sight) = sight {
            self.sessions.note(when, sight);
        }
        Ok(when)
    }
}

/// The connections that are of use to this machine. The inner error: this kernel cannot tell.
fn in_use(logins: &[RangeInclusive<u16>]) -> Result<Result<Vec<(Use, Socket)>, String>, Error> {
    let mut all = Vec::new();
    let mut asked: Vec<RangeInclusive<u16>> = NAMES.map(|port| port..=port).to_vec();
    for (transport, local) in [(Transport::Tcp, logins), (Transport::Udp, &[])] {
        if transport == Transport::Udp {
            asked.push(TIME..=TIME);
        }
        let found = match connections(transport, &Ports { local: local.to_vec(), remote: asked.clone() })? {
            Ok(found) => found,
            Err(errno) if transport == Transport::Tcp => return Ok(Err(errno.desc().to_owned())),
            // Without these nobody is cut off.
            Err(_) => continue,
        };
        let (logins, others): (Vec<_>, Vec<_>) = found
            .into_iter()
            // At a mirage nobody logs in, and none of our questions comes from one, whatever its ports.
            .filter(|connection| !connection.transparent)
            .partition(|connection| local.iter().any(|ports| ports.contains(&connection.local_port)));
        all.extend(logins.into_iter().map(|connection| (Use::Login, connection)));
        if others.is_empty() {
            continue;
        }
        // Who comes to a service of ours from a resolver's port is no resolver.
        let services = listening_sockets(transport)?.unwrap_or_default();
        let services: BTreeSet<u16> = services.iter().map(|service| service.local_port).collect();
        let asked = others.into_iter().filter(|connection| !services.contains(&connection.local_port));
        all.extend(asked.map(|connection| {
            let what = if connection.remote_port == TIME { Use::Time } else { Use::Names };
            (what, connection)
        }));
    }
    Ok(Ok(all))
}
