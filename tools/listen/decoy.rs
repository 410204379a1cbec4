//! A decoy port: a socket that strangers reach, TCP or UDP, whoever opened it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Protocol, Socket, Type};

use crate::tcp::TcpDecoy;
use crate::udp::UdpDecoy;

/// A socket on which psentry-listen receives.
#[derive(Debug)]
pub(crate) enum Decoy {
    Tcp(TcpDecoy),
    Udp(UdpDecoy),
}

/// Why a socket cannot be a decoy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error(
        "it is neither a TCP nor a UDP socket; only ListenStream= and ListenDatagram= with a port will do"
    )]
    Kind,
    /// A TCP socket that is connected, or neither connected nor listening.
    #[error("it is a TCP socket that does not listen; a socket unit needs Accept=no")]
    NotListening,
    /// A socket option or fcntl(2) was refused.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Decoy {
    /// Makes a decoy of a socket that is bound, and if it is TCP, listens.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(crate) fn new(socket: Socket) -> Result<Self, Unfit> {
        let local = socket.local_addr()?.as_socket().ok_or(Unfit::Kind)?;
        match (socket.r#type()?, socket.protocol()?) {
            (Type::STREAM, Some(Protocol::TCP | Protocol::MPTCP)) if socket.is_listener()? => {
                Ok(Decoy::Tcp(TcpDecoy::new(socket, local)?))
            }
            (Type::STREAM, Some(Protocol::TCP | Protocol::MPTCP)) => Err(Unfit::NotListening),
            (Type::DGRAM, Some(Protocol::UDP)) => Ok(Decoy::Udp(UdpDecoy::new(socket, local)?)),
            _ => Err(Unfit::Kind),
        }
    }

    /// What to call it in a sentence: `tcp [::]:23`.
    pub(crate) fn name(&self) -> String {
        let proto = if matches!(self, Decoy::Tcp(_)) { "tcp" } else { "udp" };
        format!("{proto} {}", self.local())
    }

    /// The address and port that it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        match self {
            Decoy::Tcp(decoy) => decoy.local,
            Decoy::Udp(decoy) => decoy.local,
        }
    }
}

impl AsFd for Decoy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Decoy::Tcp(decoy) => decoy.socket.as_fd(),
            Decoy::Udp(decoy) => decoy.socket.as_fd(),
        }
    }
}
