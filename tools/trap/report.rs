//! The pipe from the monitor to the worker. What the monitor reports, its counters and the facts of this machine, is a
//! `stats` record without a host, which the worker completes and writes, as it writes the vouches that the monitor read. Nothing goes the other way: the monitor reads
//! nothing from a process that reads what strangers sent.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use psentry_records::{Common, Reader, Record, Stats, StatsBody, Timestamp, Vouch, Writer};

/// The monitor's end. Once it is dropped, the worker gets no further report, and ends.
pub(crate) struct ReportSender(Writer<PipeWriter>);

impl ReportSender {
    /// A pipe. The worker's end is inherited by every program that is started while it is open.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn pipe() -> io::Result<(Self, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        // The monitor must not wait for a worker that waits for the reader of its records.
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok((ReportSender(Writer::new(writer)), reader))
    }

    /// Sends a report. A record is one write of at most PIPE_BUF bytes, so the pipe takes all of it or nothing; where it
    /// is full, the next report makes up for this one, since counters count from the start.
    pub(crate) fn send(&mut self, body: StatsBody) {
        let record = Record::Stats(Stats { common: Common::at(Timestamp::now()), body });
        let _ = self.0.write(&record);
    }

    /// Sends a vouch, for the worker to write; `false`: the pipe is full, and it is to be sent again.
    pub(crate) fn pass(&mut self, vouch: &Vouch) -> bool {
        let sent = self.0.write(&Record::Vouch(vouch.clone()));
        // Of a worker that has ended the monitor hears elsewhere.
        !sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// What came from the monitor.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Received {
    /// The newest report.
    pub(crate) report: Option<StatsBody>,
    /// Vouches, all of them.
    pub(crate) vouches: Vec<Vouch>,
}

/// The worker's end.
pub(crate) struct ReportReceiver {
    reader: Reader<File>,
    closed: bool,
}

impl ReportReceiver {
    /// Opens the inherited descriptor `fd` anew: that takes no unsafe code, and makes this end alone non-blocking.
    ///
    /// # Errors
    /// There is no such pipe.
    pub(crate) fn open(fd: RawFd) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let pipe = options.open(format!("/proc/self/fd/{fd}"))?;
        Ok(ReportReceiver { reader: Reader::new(pipe), closed: false })
    }

    /// What has come since the last call. Does not wait.
    ///
    /// # Errors
    /// What read(2) says.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        let mut received = Received::default();
        while !self.closed {
            match self.reader.fill() {
                Ok(more) => self.closed = !more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            while let Some(item) = self.reader.held() {
                match item.record {
                    Ok(Record::Stats(stats)) => received.report = Some(stats.body),
                    Ok(Record::Vouch(vouch)) => received.vouches.push(vouch),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(received)
    }

    /// Whether the monitor has closed its end: it is about to end, or has died.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The pipe, to wait for it.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.source().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use psentry_records::VouchBody;

    use super::*;

    #[test]
    fn the_newest_report_arrives_and_the_end_is_seen() {
        let (mut sender, pipe) = ReportSender::pipe().unwrap();
        let mut receiver = ReportReceiver::open(pipe.as_raw_fd()).unwrap();
        assert_eq!(receiver.receive().unwrap(), Received::default());
        let report = |seen| StatsBody::new("trap", [("seen", seen)]);
        sender.send(report(1));
        sender.send(report(2));
        assert_eq!(receiver.receive().unwrap().report, Some(report(2)));
        assert!(!receiver.is_closed());
        sender.send(report(3));
        drop(sender);
        assert_eq!(receiver.receive().unwrap().report, Some(report(3)));
        assert!(receiver.is_closed());
        assert_eq!(receiver.receive().unwrap(), Received::default());
    }

    #[test]
    fn a_worker_that_does_not_read_holds_nobody_up() {
        let (mut sender, pipe) = ReportSender::pipe().unwrap();
        // A pipe holds 64 KiB (pipe(7)).
        for seen in 0..10_000 {
            sender.send(StatsBody::new("trap", [("seen", seen)]));
        }
        let newest = ReportReceiver::open(pipe.as_raw_fd()).unwrap().receive().unwrap().report.unwrap();
        assert!((100..9_999).contains(&newest.counter("seen")), "{newest:?}");
    }

    #[test]
    fn every_vouch_arrives_or_is_sent_again() {
        let (mut sender, pipe) = ReportSender::pipe().unwrap();
        let mut receiver = ReportReceiver::open(pipe.as_raw_fd()).unwrap();
        let vouch = |user: u32| {
            let common = Common { src_ip: Some([192, 0, 2, 7].into()), ..Common::at(Timestamp::now()) };
            let body = VouchBody { user: Some(user.to_string()), ..VouchBody::default() };
            Vouch { common, body }
        };
        let sent = (0..10_000).take_while(|user| sender.pass(&vouch(*user))).count();
        assert!((100..9_999).contains(&sent), "{sent}");
        let received = receiver.receive().unwrap().vouches;
        assert_eq!(received.len(), sent);
        assert!(sender.pass(&vouch(7)));
        let users = receiver.receive().unwrap().vouches.into_iter().map(|vouch| vouch.body.user);
        assert_eq!(Vec::from_iter(users), [Some("7".to_owned())]);
    }
}
