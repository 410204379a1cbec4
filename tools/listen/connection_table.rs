//! Connections that are held for a while, for their first bytes or for a banner to arrive. All are held equally
//! long and there is a bound, so that a crowd that never hangs up costs no more than the bound for the hold.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::time::Instant;

use socket2::Socket;

use crate::probe::Contact;
use crate::settings::Handling;

/// What one read takes. What is beyond the capture is read only to be thrown away.
const READ: usize = 4096;

/// A connection that is held.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Socket,
    /// Who connected to what; `None` once its probe is written.
    contact: Option<Contact>,
    captured: Vec<u8>,
    expires: Instant,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadState {
    /// More may come.
    Open,
    /// As much has come as is captured.
    Captured,
    /// The client has hung up.
    Closed,
}

impl Connection {
    /// Takes a connection that was accepted, and sends the banner.
    pub(crate) fn open(stream: Socket, contact: Contact, handling: &Handling) -> Self {
        if !handling.banner.is_empty() {
            // A client that has hung up already will be found out by the first read.
            let _ = stream.send(&handling.banner);
        }
        let captured = Vec::with_capacity(handling.capture.min(READ));
        Connection { stream, contact: Some(contact), captured, expires: Instant::now() + handling.hold }
    }

    /// Reads once, at most [`READ`] bytes, and keeps what is to be captured of them.
    pub(crate) fn read(&mut self, capture: usize) -> ReadState {
        let mut bytes = [0; READ];
        match io::Read::read(&mut self.stream, &mut bytes) {
            Ok(0) => ReadState::Closed,
            Ok(count) => {
                let wanted = capture.saturating_sub(self.captured.len()).min(count);
                self.captured.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
                if self.captured.len() >= capture { ReadState::Captured } else { ReadState::Open }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                ReadState::Open
            }
            Err(_) => ReadState::Closed,
        }
    }

    /// What the probe is made of, the first time this is asked; `None` afterwards, so that there is one probe only.
    pub(crate) fn take_contact(&mut self) -> Option<(Contact, &[u8])> {
        self.contact.take().map(|contact| (contact, &self.captured[..]))
    }

    /// Whether its probe is written.
    pub(crate) fn is_written(&self) -> bool {
        self.contact.is_none()
    }

    /// Sends a FIN: nothing more will be sent. A client that has hung up is then rid of its connection, and so is the
    /// kernel; one that reads the banner sees its end, where a reset might take the banner from it.
    pub(crate) fn shutdown_write(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub(crate) fn stream(&self) -> &Socket {
        &self.stream
    }
}

/// All connections that are held, by numbers that grow: the first one is the oldest.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    connections: BTreeMap<u64, Connection>,
    next: u64,
    most: usize,
    /// Whether `most` is less than was requested.
    lowered: bool,
}

impl ConnectionTable {
    /// An empty table with room for `most`.
    pub(crate) fn new(most: usize) -> Self {
        ConnectionTable { connections: BTreeMap::new(), next: 0, most, lowered: false }
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.connections.len() >= self.most
    }

    /// Holds a connection, and gives it a number.
    pub(crate) fn insert(&mut self, connection: Connection) -> (u64, &Connection) {
        let number = self.next;
        self.next += 1;
        (number, self.connections.entry(number).or_insert(connection))
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&number)
    }

    /// Takes a connection out. Once it is dropped, it is closed.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Connection> {
        self.connections.remove(&number)
    }

    /// The number of the connection that is held longest.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.connections.keys().next().copied()
    }

    /// The number of a connection whose hold is over. All are held equally long: the oldest expires first.
    pub(crate) fn expired(&self, now: Instant) -> Option<u64> {
        self.oldest().filter(|_| self.next_expiry().is_some_and(|end| end <= now))
    }

    /// When the next hold is over.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.connections.values().next().map(|connection| connection.expires)
    }

    /// Lowers the bound to as many as are held now, and returns it.
    pub(crate) fn lower(&mut self) -> usize {
        let held = self.connections.len();
        self.lowered |= held < self.most;
        self.most = self.most.min(held);
        self.most
    }

    /// Whether the bound is lower than at first.
    pub(crate) fn is_lowered(&self) -> bool {
        self.lowered
    }
}
