//! psentry-trap: closed ports. The kernel shuts a source out with the first packet to one, for seconds; this program
//! gives it the rules for that, and tells of each such packet.
//!
//! It is two processes. The *warden* has CAP_NET_ADMIN: it loads the rules, keeps them up to date and takes them away.
//! It reads nothing that a stranger wrote. The *reader*, its child, has no right at all: it reads the headers of the
//! packets, and writes the probes.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `settings.rs`, `ports.rs` | flags, what they mean, lists of ports |
//! | `ruleset.nft`, `tell.nft`, `ruleset.rs` | the rules, and how they are filled in |
//! | `ground.rs`, `sockets.rs` | what the rules must know of this machine |
//! | `table.rs`, `counters.rs` | loading and removing the rules; what they counted |
//! | `warden.rs`, `child.rs` | the parent's loop; its child, the reader |
//! | `nflog.rs`, `sight.rs` | packets from the kernel |
//! | `rights.rs` | how the reader gives up every right |
//! | `fold.rs`, `half_open.rs` | alike probes made one; SYNs to decoys that no handshake follows |
//! | `reader.rs` | the child's loop |
//! | `stats.rs` | counters as records and as a sentence |
//! | `run.rs`, `error.rs` | the whole program, and what can go wrong |

mod child;
mod cli;
mod counters;
mod error;
mod fold;
mod ground;
mod half_open;
mod nflog;
mod ports;
mod probes;
mod reader;
mod rights;
mod ruleset;
mod run;
mod settings;
mod sight;
mod sockets;
mod stats;
mod table;
mod warden;

pub use cli::Flags;
pub use error::TrapError;
pub use run::run;
