//! What systemd is told (sd_notify(3)): that the decoys stand, that they still do, and that they go.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

/// The talk with the service manager. Without one all of it does nothing.
pub(crate) struct Service {
    /// How often to say that all is well, and when next.
    pulse: Cell<Option<(Duration, Instant)>>,
}

impl Service {
    /// Says that `status` is so and the service is ready.
    ///
    /// # Errors
    /// When systemd waits for it and cannot be told.
    pub(crate) fn ready(status: &str) -> io::Result<Self> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])?;
        // Twice within the time that WatchdogSec= gives, as sd_watchdog_enabled(3) advises.
        let pulse = sd_notify::watchdog_enabled().map(|limit| (limit / 2, Instant::now()));
        Ok(Service { pulse: Cell::new(pulse) })
    }

    /// For when systemd could not be told that the service is ready.
    pub(crate) fn silent() -> Self {
        Service { pulse: Cell::new(None) }
    }

    /// Says that all is well, if it is time to.
    pub(crate) fn pulse(&self, now: Instant) {
        if let Some((every, _)) = self.pulse.get().filter(|&(_, next)| next <= now) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.pulse.set(Some((every, now + every)));
        }
    }

    /// When it is time to.
    pub(crate) fn next_pulse(&self) -> Option<Instant> {
        self.pulse.get().map(|(_, next)| next)
    }

    /// Waits until `sink` takes a record or breaks, or `stop` is readable, and says meanwhile that all is well: a
    /// reader that is slow is no reason to be killed.
    ///
    /// # Errors
    /// poll(2)'s.
    pub(crate) fn await_reader(&self, sink: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<()> {
        let mut fds = [PollFd::new(sink, PollFlags::POLLOUT), PollFd::new(stop, PollFlags::POLLIN)];
        loop {
            let now = Instant::now();
            self.pulse(now);
            // Without a pulse the write itself may wait.
            let Some(next) = self.next_pulse() else { return Ok(()) };
            // Milliseconds are rounded down: one more, so that this never spins just before it is time.
            let patience = next.saturating_duration_since(now) + Duration::from_millis(1);
            match poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Says that the service is ending.
    pub(crate) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Read};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use clap::Parser;

    use super::*;

    /// The variable that has the port for [`the_program`].
    const PORT: &str = "PSENTRY_TEST_PORT";

    /// How long anything is waited for. Far more than it takes.
    const WAIT: Duration = Duration::from_secs(30);

    /// No test: what the other one starts, for the environment cannot be changed within a process.
    #[test]
    #[ignore = "started by another test"]
    fn the_program() {
        let Ok(port) = std::env::var(PORT) else { return };
        let flags = ["psentry-listen", "--bind", "127.0.0.1", "--udp", &port];
        crate::run(crate::Flags::parse_from(flags)).unwrap();
    }

    fn is_full(pipe: &PipeWriter) -> bool {
        poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO).unwrap() == 0
    }

    #[test]
    fn systemd_hears_the_pulse_while_the_reader_does_not_read() {
        let path = std::env::temp_dir().join(format!("psentry-notify-{}", std::process::id()));
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_read_timeout(Some(WAIT)).unwrap();
        let hear = || {
            let mut told = [0; 4096];
            let length = systemd.recv(&mut told).unwrap();
            String::from_utf8_lossy(&told[..length]).into_owned()
        };
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut reader, writer) = io::pipe().unwrap();
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service::tests::the_program", "--ignored"])
            .env(PORT, port.to_string())
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "40000")
            .stdout(writer.try_clone().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !hear().contains("READY=1") {}

        let scanner = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fill = || {
            let began = Instant::now();
            while !is_full(&writer) {
                scanner.send_to(b"x", ("127.0.0.1", port)).unwrap();
                assert!(began.elapsed() < WAIT, "the pipe does not fill");
            }
        };
        fill();
        // Those that were told before the pipe was full.
        systemd.set_nonblocking(true).unwrap();
        while systemd.recv(&mut [0; 4096]).is_ok() {}
        systemd.set_nonblocking(false).unwrap();
        for _ in 0..5 {
            assert_eq!(hear().trim_end(), "WATCHDOG=1");
            assert!(is_full(&writer));
        }
        // And the writing goes on once there is room.
        reader.read_exact(&mut [0; 40_000]).unwrap();
        fill();
        program.kill().unwrap();
        program.wait().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
