//! The command `psentry`: the one word that an administrator has to remember. It finds the settings, the log and the control
//! sockets of the installed suite, asks each tool, and merges what they answer into one list, one status and one log.
//!
//! It decides nothing about a source and touches no kernel table. What changes a block is asked of the tool that holds it, on
//! its control socket, or is a command of the program beside this one; its own are only the settings in /etc/psentry.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `run.rs`, `error.rs` | flags, which command is run, what can go wrong |
//! | `installed.rs` | where the suite is: settings, log, sockets, and each tool asked |
//! | `programs.rs` | the programs of the suite, and systemctl |
//! | `rows.rs` | who is shut out, merged over all tools, and why somebody is not; in words |
//! | `history.rs` | what the log says of a source, and `log` |
//! | `people.rs` | `list`, `why` and `unblock` |
//! | `status.rs`, `status/` | `status`: what is gathered, and what follows of it |
//! | `decoys.rs`, `edit.rs` | the settings that commands change: `decoy`; `allow` and `mode` |
//! | `completions.rs` | completions that know addresses and decoys |

#![forbid(unsafe_code)]

mod cli;
mod completions;
mod decoys;
mod edit;
mod error;
mod history;
mod installed;
mod people;
mod programs;
mod rows;
mod run;
mod status;

pub use cli::Flags;
pub use completions::complete;
pub use error::Error;
pub use run::run;
