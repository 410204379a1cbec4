//! The whole program: which of the two processes this is, and how the monitor starts the worker.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use netlink_sys::Socket;
use psentry_control::Server;
use psentry_ports::PORTS_FILE;
use psentry_stage::{Signals, host_name, speak};

use crate::config_files::ConfigFiles;
use crate::host_facts::HostFacts;
use crate::monitor::Monitor;
use crate::nflog::{self, Log};
use crate::quarantine_journal::QuarantineJournal;
use crate::report::{ReportReceiver, ReportSender};
use crate::settings::Settings;
use crate::sockets::Listening;
use crate::source_file::Sources;
use crate::worker::Worker;
use crate::worker_process::WorkerProcess;
use crate::{Flags, TrapError, commands, privdrop, ruleset, sockets};

/// The whole program, after its flags are read.
///
/// # Errors
/// [`TrapError`]; SIGTERM and SIGINT are no errors.
pub fn run(flags: Flags) -> Result<(), TrapError> {
    if let (Some(parent), Some(reports)) = (flags.worker, flags.reports) {
        return run_worker(parent, reports, flags.host.or_else(host_name));
    }
    if let Some(command) = &flags.command {
        return commands::run(&flags, command);
    }
    let (check, print) = (flags.check, flags.print);
    let settings = Settings::from_flags(flags)?;
    // A check is of the files themselves, and makes no copy.
    let state = settings.state.as_deref().filter(|_| !check && !print);
    let files = ConfigFiles::open(Path::new(PORTS_FILE), &settings.allow, state)?;
    if check {
        return Ok(());
    }
    if print {
        let facts =
            HostFacts::read(sockets::look()?, Listening::default(), &settings.hide, &Sources::new(), &files)?;
        io::stdout().write_all(ruleset::full(&settings, &facts, settings.grace_left()).as_bytes())?;
        return Ok(());
    }
    run_monitor(settings, files)
}

fn run_monitor(settings: Settings, files: ConfigFiles) -> Result<(), TrapError> {
    let signals = catch_signals()?;
    // Before the rules, so that nothing is logged while nobody reads; and so that a second psentry-trap ends here.
    let socket = nflog::open(settings.group)?;
    // Before the first thread, and before the rules: what cannot be had is not found out when somebody is shut out.
    let control = settings.control.as_deref();
    let control = Server::listen_for("psentry-trap", control, settings.control_mode, |text| {
        let _ = speak(&format!("psentry-trap: {text}"));
    })?;
    let monitor = Monitor::new(settings, files, control)?;
    let worker = start_worker(socket)?;
    monitor.run(worker, &signals)
}

/// Starts this program again as the worker. It inherits the socket as its standard input, and the pipe by its number.
fn start_worker(socket: Socket) -> Result<WorkerProcess, TrapError> {
    let system = |why| TrapError::System("start the process that reads packets", why);
    let inherited = socket.as_fd().try_clone_to_owned().map_err(system)?;
    // The worker's is the only one left: when it ends, the kernel stops logging.
    drop(socket);
    let (sender, pipe) = ReportSender::pipe().map_err(system)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("psentry-trap")
        .args(std::env::args_os().skip(1))
        .args(["--worker", &std::process::id().to_string()])
        .args(["--reports", &pipe.as_raw_fd().to_string()])
        .stdin(Stdio::from(inherited));
    // Once it is started, this process's copy of its end of the pipe is closed, so that no other program inherits it.
    WorkerProcess::start(command, sender).map_err(system)
}

fn run_worker(parent: i32, reports: i32, host: Option<String>) -> Result<(), TrapError> {
    let signals = catch_signals()?;
    // Before the user changes, since a pipe is its creator's.
    let reports =
        ReportReceiver::open(reports).map_err(|why| TrapError::System("open the monitor's pipe", why))?;
    let journal = QuarantineJournal::open();
    privdrop::drop_privileges(parent)?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Worker::new(Log::new(socket), reports, signals, host, journal)?.run()
}

/// The signals of both processes, since a terminal and systemd send them to both.
fn catch_signals() -> Result<Signals, TrapError> {
    Signals::catch_requests(false).map_err(|errno| TrapError::System("wait for signals", errno.into()))
}
