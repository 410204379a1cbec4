//! The command `psentry`: the one word that an administrator has to remember. It finds the settings, the log and the control
//! sockets of the installed suite, asks each tool, and merges what they answer into one list, one status and one log.
//!
//! It decides nothing about a source and touches no kernel table. What changes a block is asked of the tool that holds it, on
//! its control socket, or is a command of the program beside this one; its own are only the settings in /etc/psentry.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `run.rs`, `error.rs` | flags, which command is run, what can go wrong |
//! | `installed.rs` | where the suite is: settings, log, sockets |
//! | `tools.rs` | the control sockets, each tool asked |
//! | `siblings.rs` | the programs of the suite, and systemctl |
//! | `rows.rs` | who is shut out, merged over all tools, and in words |
//! | `history.rs` | what the log says of a source |
//! | `query.rs`, `reasons.rs` | `list` and `why`; why somebody is not shut out |
//! | `unblock.rs` | `unblock` |
//! | `log.rs` | `log` |
//! | `status.rs`, `status/` | `status`: what is gathered, and what follows of it |
//! | `decoys.rs`, `allow.rs`, `mode.rs` | the settings that commands change |
//! | `completions.rs` | completions that know addresses and decoys |
//! | `clock.rs` | moments in the zone of whoever reads |

#![forbid(unsafe_code)]

mod allow;
mod cli;
mod clock;
mod completions;
mod decoys;
mod error;
mod history;
mod installed;
mod log;
mod mode;
mod query;
mod reasons;
mod rows;
mod run;
mod siblings;
mod status;
mod tools;
mod unblock;

pub use cli::Flags;
pub use completions::complete;
pub use error::Error;
pub use run::run;
