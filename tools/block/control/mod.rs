//! The control socket, `--control`: how people reach a running psentry-block. One line of JSON in, some out, and the
//! connection is over. Verdicts from here are decided by the same ledger as any, in order with them.
//!
//! | file | what it holds |
//! |---|---|
//! | `words.rs` | what is asked, and how |
//! | `socket.rs` | the file: made, taken over from the dead, taken away |
//! | `listener.rs` | the threads that read questions and write answers, and wait for nobody for long |
//! | `late.rs` | how long answers are waited for |
//! | `serving.rs` | the main loop's part |
//! | `client.rs` | the other end |

pub(crate) mod client;
mod late;
mod listener;
mod serving;
mod socket;
mod words;

pub(crate) use listener::Control;
pub(crate) use words::{Answer, Answers, Letting, Prospect, line};

use std::path::PathBuf;

use crate::cli::Flags;
use crate::lock::runtime_directory;

/// Where psentry-block.service listens, so that commands find it without a flag.
pub(crate) fn path(flags: &Flags) -> PathBuf {
    flags.control.clone().unwrap_or_else(|| runtime_directory().join("control"))
}
