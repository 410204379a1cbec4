//! The suite as it is installed: where its settings, its log, its control sockets and its programs are, and how it is. Whoever reads
//! all records of this machine, or says how psentry is, begins here.
//!
//! It asks control sockets, the log and systemctl, and changes nothing.
//!
//! | file | what it holds |
//! |---|---|
//! | `suite.rs` | [`Installed`]: settings, log, sockets, programs |
//! | `environment_file.rs` | psentry.conf as systemd reads it, and with one line changed |
//! | `systemd.rs` | what systemd says of units and sockets |
//! | `status.rs`, `findings.rs` | how the suite is: what is gathered, and what follows of it |
//! | `error.rs` | what can go wrong |

#![forbid(unsafe_code)]

mod environment_file;
mod error;
mod findings;
mod status;
mod suite;
mod systemd;

pub use environment_file::{variables, with_line, with_variable};
pub use error::Error;
pub use status::Status;
pub use suite::{Answer, Installed, missing, sibling};
pub use systemd::{decoys, has_systemd, systemctl};
