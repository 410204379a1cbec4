//! systemd's journal, for what an administrator looks for there: a line with the fields of a record, by journald's native protocol
//! (systemd's documentation: "Native Journal Protocol"), which is a datagram of lines `NAME=value`. It is used only where standard
//! error is the journal, as `JOURNAL_STREAM` says; a journal that does not take a line at once loses it, for it must hold up nobody.
//!
//! The log of all records is another thing (psentry-log): it misses nothing.

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, io};

use nix::sys::stat::fstat;
use psentry_records::{Record, Timestamp};
use serde_json::Value;

use crate::{counted, printable, second};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// For so long lines are counted together.
const WINDOW: Duration = Duration::from_secs(10);

/// The MESSAGE_ID of the line that counts what was left out.
const LEFT_OUT: &str = "35f83dc721bb4190963a64bb289317a6";

/// How much a line matters, as syslog(3) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// LOG_ERR.
    Error = 3,
    /// LOG_NOTICE.
    Notice = 5,
    /// LOG_INFO.
    Info = 6,
}

/// The journal, in the name of one program.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    identifier: &'static str,
    /// The most lines in a window, and how many this one has.
    most: u32,
    sent: u32,
    began: Instant,
    left_out: u64,
}

impl Journal {
    /// The journal, where standard error is it: at most so many lines in ten seconds, for `journalctl -t IDENTIFIER`. A program that
    /// gives up rights calls this before.
    #[must_use]
    pub fn open(identifier: &'static str, most: u32) -> Option<Self> {
        is_stderr(&env::var("JOURNAL_STREAM").ok()?)
            .then(|| Self::at(Path::new(SOCKET), identifier, most).ok())?
    }

    fn at(path: &Path, identifier: &'static str, most: u32) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Journal { socket, identifier, most, sent: 0, began: Instant::now(), left_out: 0 })
    }

    /// Writes a line with the fields of a record, unless there were too many within these ten seconds, which is counted.
    pub fn send(
        &mut self,
        message_id: &str,
        priority: Priority,
        message: &str,
        record: &Record,
        now: Instant,
    ) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            self.report_left_out();
            (self.began, self.sent) = (now, 0);
        }
        if self.sent >= self.most || self.write(message_id, priority, message, &fields(record)).is_err() {
            self.left_out += 1;
        } else {
            self.sent += 1;
        }
    }

    /// Counts what is left out without a line of its own.
    pub fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// Says how much was left out since it was last said.
    pub fn report_left_out(&mut self) {
        let count = self.left_out;
        let message = format!("{} left out here; the log has all", counted(count, "line was", "lines were"));
        let field = [("PSENTRY_LEFT_OUT".to_owned(), count.to_string())];
        if count > 0 && self.write(LEFT_OUT, Priority::Notice, &message, &field).is_ok() {
            self.left_out = 0;
        }
    }

    fn write(
        &self,
        message_id: &str,
        priority: Priority,
        message: &str,
        fields: &[(String, String)],
    ) -> io::Result<()> {
        let mut datagram = format!(
            "MESSAGE={}\nMESSAGE_ID={message_id}\nPRIORITY={}\nSYSLOG_IDENTIFIER={}\n",
            printable(message),
            priority as u8,
            self.identifier
        );
        // What is printable has no newline, which would begin another field.
        fields.iter().for_each(|(name, value)| datagram.push_str(&format!("{name}={}\n", printable(value))));
        self.socket.send(datagram.as_bytes()).map(drop)
    }
}

/// Whether standard error is what `JOURNAL_STREAM` names: device and inode.
fn is_stderr(stream: &str) -> bool {
    let is = fstat(io::stderr().as_fd()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    is.is_ok_and(|is| is == stream)
}

/// The fields of a record: `src_ip` as `PSENTRY_SRC_IP`, and so on, those of its own object among them.
fn fields(record: &Record) -> Vec<(String, String)> {
    let mut line = Vec::new();
    let object = record.encode(&mut line).ok().and_then(|()| serde_json::from_slice(&line).ok());
    let Some(Value::Object(object)) = object else { return Vec::new() };
    let (own, common): (Vec<_>, Vec<_>) = object.into_iter().partition(|(_, value)| value.is_object());
    let own = own
        .into_iter()
        .filter_map(|(_, value)| if let Value::Object(own) = value { Some(own) } else { None });
    let all = common.into_iter().chain(own.flatten());
    all.map(|(name, value)| (format!("PSENTRY_{}", name.to_ascii_uppercase()), text(value))).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(values) => values.into_iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// When something ends, to follow a sentence of the journal's, which has UTC.
#[must_use]
pub fn journal_end(until: Option<Timestamp>) -> String {
    until.map_or_else(|| ", no end".to_owned(), |until| format!(" until {}", second(until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let line = r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"outcome","src_ip":"203.0.113.7","outcome":{"action":"block","scope":"203.0.113.7/32","backend":"nft","result":"applied","ports":[22,53],"reason":"a\nPRIORITY=0"}}"#;
        Record::parse(line).unwrap()
    }

    #[test]
    fn a_line_has_the_fields_of_its_record_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(&path, "psentry-block", 2).unwrap();
        let now = Instant::now();
        let mut send = |at| journal.send("ab", Priority::Notice, "x\ny", &record(), at);
        let read = || {
            journald.set_nonblocking(true).unwrap();
            let mut datagram = [0; 4096];
            journald
                .recv(&mut datagram)
                .ok()
                .map(|size| String::from_utf8_lossy(&datagram[..size]).into_owned())
        };
        send(now);
        assert_eq!(
            read().unwrap(),
            "MESSAGE=x\\ny\nMESSAGE_ID=ab\nPRIORITY=5\nSYSLOG_IDENTIFIER=psentry-block\n\
             PSENTRY_EVENT_TYPE=outcome\nPSENTRY_SRC_IP=203.0.113.7\nPSENTRY_TIMESTAMP=2026-11-22T15:04:05.000000Z\n\
             PSENTRY_ACTION=block\nPSENTRY_BACKEND=nft\nPSENTRY_PORTS=22,53\nPSENTRY_REASON=a\\nPRIORITY=0\n\
             PSENTRY_RESULT=applied\nPSENTRY_SCOPE=203.0.113.7/32\n"
        );
        // Too many within ten seconds are counted, and told of in the next ones.
        (0..3).for_each(|_| send(now));
        assert!(read().is_some() && read().is_none());
        send(now + WINDOW);
        assert!(read().unwrap().starts_with("MESSAGE=2 lines were left out here; the log has all\n"));
        assert!(read().is_some_and(|line| line.contains("MESSAGE_ID=ab\n")));
    }

    #[test]
    fn another_stream_than_standard_error_is_not_the_journal() {
        let stat = fstat(io::stderr().as_fd()).unwrap();
        assert!(is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        assert!(!is_stderr("8:123456") && !is_stderr(""));
    }
}
