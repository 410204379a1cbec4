//! The control socket of a psentry tool: how commands ask the one that runs. What is asked is alike for all tools
//! ([`Question`]); what is answered is the tool's own, and here is only how it gets there and back.
//!
//! A client connects, writes one line of at most [`LONGEST_LINE`] bytes, and reads lines until an empty one, which says that
//! the answer is complete: a server that dies meanwhile closes the connection without it. Instead of an answer, or after a
//! part of it, comes `{"error":"..."}`; and what else the client should know, `{"note":"..."}` (see [`Reply`]).
//!
//! Who may connect is a matter of the file's mode and group; whether somebody may change something the server decides by
//! the credentials that the kernel has of the connection ([`Request::may_change`]).
//!
//! | file | what it holds |
//! |---|---|
//! | `question.rs` | what is asked |
//! | `place.rs` | where a tool listens, if its flags do not say it |
//! | `socket.rs` | the file: made, taken over from a dead process, removed |
//! | `server.rs` | the threads that read questions and write answers, and never wait for anybody for long |
//! | `client.rs` | the other end |
//! | `reply.rs` | what a client has of an answer: lines, notes, errors |
//! | `refusal.rs` | the line that says why there is no answer |

#![forbid(unsafe_code)]

mod client;
mod place;
mod question;
mod refusal;
mod reply;
mod server;
mod socket;

use std::io;
use std::path::PathBuf;

pub use client::{Silence, ask};
pub use place::{default_path, parse_control_mode};
pub use question::{BY_HAND, Question};
pub use reply::{Reply, error_line, json_line, note_line};
pub use server::{Answer, Closing, Request, Server};

/// The longest question in bytes, with its newline.
pub const LONGEST_LINE: usize = 4096;

/// Why nobody can be asked here.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A living process listens there.
    #[error("{}: another {owner} listens there", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The program, as [`Server::listen`] was told.
        owner: String,
    },
    /// Something else has that name.
    #[error("{}: this is not a socket, and it is not removed", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{}: cannot {doing}: {why}", path.display())]
    File {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        why: io::Error,
    },
}
