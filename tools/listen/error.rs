//! What can go wrong with psentry-listen, in sentences that say what to do.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use psentry_stage::{Exit, Failure, PortsError};

/// Why psentry-listen ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// A list of ports is wrong.
    #[error("{flag}: {source}")]
    Ports {
        /// The flag that gave the list.
        flag: &'static str,
        /// Which part of the list is wrong.
        source: PortsError,
    },
    /// The value of `--bind` is no IP address.
    #[error("--bind: '{0}' is not an address such as 192.0.2.7 or 2001:db8::7")]
    BindForm(String),
    /// The address of `--bind` is a broadcast or multicast address.
    #[error("--bind: {0} is not an address of one machine; give one of this machine's own")]
    BindMany(IpAddr),
    /// `--bind` was given without `--tcp` and `--udp`, which alone it is about.
    #[error("--bind says where to bind ports: give --tcp or --udp with it, or leave it out")]
    BindAlone,
    /// A port cannot be a decoy and the mirage.
    #[error("--mirage: port {0} is one of --tcp or --udp, too; choose another for one of them")]
    MirageTwice(u16),
    /// The banner cannot be read.
    #[error("--banner: cannot read {}: {source}", path.display())]
    Banner {
        /// The file of `--banner`.
        path: PathBuf,
        /// What open(2) or read(2) said.
        source: io::Error,
    },
    /// The file of the banner is empty.
    #[error("--banner: {} is empty; write a banner into it, or leave the flag out", .0.display())]
    BannerEmpty(PathBuf),
    /// The file of the banner is too long for one write.
    #[error("--banner: {} is longer than {most} bytes; shorten it", path.display())]
    BannerLong {
        /// The file of `--banner`.
        path: PathBuf,
        /// How many bytes it may have.
        most: u64,
    },
    /// `--hold 0` with a banner: the reset would outrun it.
    #[error("--hold 0 resets a connection before its banner is read: give it more, or leave it out")]
    BannerUnread,
    /// No flag names a port, and systemd passed no socket.
    #[error(
        "there is no port to listen on: give --tcp or --udp, or start it from a socket unit (systemd.socket(5))"
    )]
    NoSockets,
    /// Ports were requested, or passed, and none could be used.
    #[error("none of the ports can be a decoy, for the reasons above; choose others")]
    NoneLeft,
    /// The same, and for some of them for lack of rights.
    #[error(
        "none of the ports could be opened, for lack of rights (see above); let systemd open them, or give the right that is named"
    )]
    NoRight,
    /// Every decoy broke while it was in use.
    #[error("no decoy port is left: every one of them broke (see above)")]
    AllLost,
    /// A system call failed without which the program cannot work.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// The reader of standard output is gone (EPIPE).
    #[error("the reader of standard output is gone; start it again, and psentry-listen with it")]
    ReaderGone,
    /// write(2) to standard output failed.
    #[error("cannot write probes to standard output: {0}")]
    Output(#[source] io::Error),
}

impl Failure for ListenError {
    fn exit(&self) -> Exit {
        match self {
            ListenError::Ports { .. } | ListenError::BindForm(_) | ListenError::BindMany(_) => Exit::Usage,
            ListenError::BindAlone
            | ListenError::MirageTwice(_)
            | ListenError::Banner { .. }
            | ListenError::BannerEmpty(_)
            | ListenError::BannerLong { .. }
            | ListenError::BannerUnread
            | ListenError::NoSockets
            | ListenError::NoneLeft => Exit::Config,
            ListenError::NoRight => Exit::NoPermission,
            ListenError::AllLost | ListenError::System(..) => Exit::Os,
            ListenError::ReaderGone | ListenError::Output(_) => Exit::Io,
        }
    }
}

/// What writing a probe may fail with.
impl From<io::Error> for ListenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => ListenError::ReaderGone,
            _ => ListenError::Output(error),
        }
    }
}
