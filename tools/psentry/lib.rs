//! The command `psentry`: the one word that an administrator has to remember. It asks each tool of the installed suite,
//! which psentry-installed finds, and merges what they answer into one list, one status and one log.
//!
//! It decides nothing about a source and touches no kernel table. What changes a block is asked of the tool that holds it, on
//! its control socket, or is a command of the program beside this one; its own are only the settings in /etc/psentry.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `run.rs` | flags, which command is run |
//! | `rows.rs` | who is shut out, merged over all tools, and why somebody is not; in words |
//! | `people.rs` | `list`, `why` and `unblock` |
//! | `history.rs` | what the log says of a source, and `log` |
//! | `settings.rs` | `decoy`, `allow` and `mode`: the settings that commands change |
//! | `completions.rs` | completions that know addresses and decoys |

#![forbid(unsafe_code)]

mod cli;
mod completions;
mod history;
mod people;
mod rows;
mod run;
mod settings;

pub use cli::Flags;
pub use completions::complete;
pub use psentry_installed::Error;
pub use run::run;
