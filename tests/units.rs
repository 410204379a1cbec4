//! What stands in `units/`: the unit files, the installer and `units/try`.
//!
//! | file | what it shows |
//! |---|---|
//! | `files.rs` | systemd understands each unit, and each sandbox is as tight as it was meant to be |
//! | `booted.rs`, `booted/` | installed, observed, switched on, killed, restarted and uninstalled on a booted systemd; every backend there |
//! | `day.rs`, `day/` | an administrator's day as one script, with what is typed and seen in golden files; every command of a page is run |
//! | `demo.rs` | `units/try` as a newcomer runs it |

pub mod booted;
mod day;
mod demo;
mod files;
