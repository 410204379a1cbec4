//! Who must never be shut out, whatever a verdict says. [`Guard`] answers two questions about a scope:
//!
//! - [`Guard::refusal`]: may it be blocked at all? Never this machine's own addresses, its gateways and resolvers, special
//!   ranges, networks that are too wide, and the addresses that the files of `--allow` name.
//! - [`Guard::not_yet`]: may it be blocked now? Not while somebody is logged in from there, nor a resolver or a time server
//!   that this machine is asking.
//!
//! An answer is a sentence that says why not. The facts come from psentry-linux; the caller only says when something may
//! have changed: [`Guard::files`] are to be watched, then [`Guard::read_files`] reads them again, and
//! [`Guard::heed_changes`] and [`Guard::glance`] are cheap enough for each turn of a main loop.
//!
//! | file | what it holds |
//! |---|---|
//! | `guard.rs` | the guard: what was last listed of this machine, and when it is listed again |
//! | `never_blocked.rs` | special ranges, own addresses, gateways, resolvers: a pure decision |
//! | `allow.rs` | the addresses that an administrator never wants blocked |
//! | `translators.rs` | prefixes in which each address stands for one of IPv4 |
//! | `sessions.rs`, `logind.rs` | who is logged in |
//! | `connections.rs` | the connections that are of use to this machine, as the kernel lists them |

#![forbid(unsafe_code)]

mod allow;
mod connections;
mod guard;
mod logind;
mod never_blocked;
mod sessions;
mod translators;

pub use guard::Guard;
pub use logind::logged_in;
