//! The whole program: which of the two processes this is, and how the one starts the other.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use netlink_sys::Socket;
use psentry_stage::{Signals, host_name};

use crate::child::Child;
use crate::ground::Ground;
use crate::nflog::{self, Log};
use crate::reader::Reader;
use crate::settings::Settings;
use crate::warden::Warden;
use crate::{Flags, TrapError, rights, ruleset, sockets};

/// The whole program, after its flags are read.
///
/// # Errors
/// [`TrapError`]; SIGTERM and SIGINT are no errors.
pub fn run(flags: Flags) -> Result<(), TrapError> {
    if let Some(parent) = flags.reader {
        return read(parent, flags.host.or_else(host_name));
    }
    let (check, print) = (flags.check, flags.print);
    let mut settings = Settings::from_flags(flags)?;
    if check {
        return Ok(());
    }
    if print {
        let ground = Ground::look(sockets::look()?)?;
        io::stdout().write_all(ruleset::whole(&settings, &ground).as_bytes())?;
        return Ok(());
    }
    settings.host = settings.host.take().or_else(host_name);
    guard(settings)
}

/// The warden.
fn guard(settings: Settings) -> Result<(), TrapError> {
    let signals = catch()?;
    // Before the rules, so that nothing is logged that nobody hears; and so that a second psentry-trap ends here.
    let socket = nflog::open(settings.group)?;
    let warden = Warden::new(settings)?;
    let reader = start(socket)?;
    warden.watch(reader, &signals)
}

/// Starts this program again as the reader. It inherits the socket as its standard input.
fn start(socket: Socket) -> Result<Child, TrapError> {
    let system = |why| TrapError::System("start the reader", why);
    let inherited = socket.as_fd().try_clone_to_owned().map_err(system)?;
    // The child's is the only one left: when it ends, the kernel stops logging.
    drop(socket);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("psentry-trap")
        .args(std::env::args_os().skip(1))
        .args(["--reader", &std::process::id().to_string()])
        .stdin(Stdio::from(inherited));
    Child::start(command).map_err(system)
}

/// The reader.
fn read(parent: i32, host: Option<String>) -> Result<(), TrapError> {
    let signals = catch()?;
    rights::give_up(parent)?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Reader::new(Log::new(socket), signals, host)?.run()
}

fn catch() -> Result<Signals, TrapError> {
    Signals::catch().map_err(|errno| TrapError::System("wait for signals", errno.into()))
}
