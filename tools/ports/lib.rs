//! What a packet to a port without a socket means, as `/etc/psentry/ports` says it: chatter, a stray, or a probe; and
//! which ports are one contact, because one command touches all of them.
//!
//! This crate reads the file and answers questions about ports. It knows nothing of this machine: which ports are served
//! and which networks are its own is for psentry-trap to know, and what a contact weighs for psentry-judge.
//!
//! | file | what it holds |
//! |---|---|
//! | `table.rs` | [`PortTable`]: the statements, and the questions about them |
//! | `parse.rs` | the file: a statement a line |
//! | `names.rs` | ports in words, for people |
//! | `service.rs` | [`Service`], [`Services`]: a protocol and its ports |

/// Where the file is. No flag names another one, because every program that reads it has to agree with the others.
pub const PORTS_FILE: &str = "/etc/psentry/ports";

mod names;
mod parse;
mod service;
mod table;

pub use names::{named_ports, named_ports_shortly};
pub use parse::PortsFileError;
pub use service::{Service, ServiceError, Services};
pub use table::{Family, PortTable};
