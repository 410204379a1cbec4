//! What stands in `units/`: the unit files, the installer and `units/try`.
//!
//! | file | what it shows |
//! |---|---|
//! | `files.rs` | systemd understands each unit, and each sandbox is as tight as it was meant to be |
//! | `booted.rs`, `booted/` | installed, observed, switched on, killed, restarted and uninstalled on a booted systemd; every backend there |
//! | `demo.rs` | `units/try` as a newcomer runs it |

pub mod booted;
mod demo;
mod files;
