//! psentry-trap: closed ports. The kernel shuts a source out with the first packet to one, for seconds; this program
//! gives it the rules for that, and writes a probe of each such packet.
//!
//! It is two processes. The *monitor* has CAP_NET_ADMIN: it loads the rules, keeps them up to date and deletes them. It
//! reads nothing that a stranger wrote: but for files of the administrator's, only what root and the group psentry may ask on
//! its control socket. The *worker*, its child, has no privilege at all: it reads the headers of the
//! packets, and writes the records. What the monitor has to say in them goes to the worker through a pipe, and nothing
//! comes back.
//!
//! | file | what it holds |
//! |---|---|
//! | `cli.rs`, `settings.rs`, `ports.rs` | flags, what they mean, lists of ports |
//! | `ruleset.nft`, `quarantine.nft`, `log.nft`, `ruleset.rs` | the rules, and how they are filled in |
//! | `host_facts.rs`, `sockets.rs`, `config_files.rs` | what the rules must know of this host |
//! | `served_file.rs` | which ports were served, across restarts |
//! | `veil.nft`, `familiar.rs` | the rules of the veil; who is familiar there, across restarts |
//! | `vouched.rs`, `vouch_input.rs` | who may see hidden ports, across restarts; where vouches come from |
//! | `confirm.rs` | hidden and veiled ports are shown again unless somebody confirms that he gets in |
//! | `source_file.rs` | the files that name sources |
//! | `machine.rs`, `rtnetlink.rs` | what a `stats` record says of this host's networks, and from what |
//! | `table.rs`, `counters.rs` | loading and deleting the rules; counters of both processes |
//! | `drift.rs` | what others do to the rules, and how soon they are loaded again |
//! | `full_quarantine.rs` | when somebody is told that the quarantine is full, and that it is no longer |
//! | `panic_watch.rs` | whether a panic holds, and each change of that |
//! | `monitor.rs`, `worker_process.rs` | the parent's loop; its child, the worker |
//! | `monitor/rules.rs` | how the monitor loads, repairs and changes the rules |
//! | `monitor/stats.rs` | what it counts |
//! | `monitor/vouching.rs` | how it takes vouches and a confirmation |
//! | `quarantine.rs` | who is in quarantine, and the release of sources from it |
//! | `monitor/questions.rs`, `protocol.rs`, `commands.rs` | what is asked on the control socket, what it answers, and the commands that ask |
//! | `report.rs` | the pipe from the monitor to the worker |
//! | `nflog.rs`, `nflog_message.rs` | packets from the kernel |
//! | `quarantine_journal.rs` | what the journal has of the quarantine |
//! | `privdrop.rs` | how the worker drops every privilege |
//! | `half_open.rs` | SYNs to decoys and to veiled ports that nothing follows |
//! | `worker.rs`, `probes.rs` | the child's loop; a packet as a probe |
//! | `ready.rs` | what psentry-trap says when it is ready |
//! | `run.rs`, `error.rs` | the whole program, and what can go wrong |

mod cli;
mod commands;
mod config_files;
mod confirm;
mod counters;
mod drift;
mod error;
mod familiar;
mod full_quarantine;
mod half_open;
mod host_facts;
mod machine;
mod monitor;
mod nflog;
mod nflog_message;
mod panic_watch;
mod ports;
mod privdrop;
mod probes;
mod protocol;
mod quarantine;
mod quarantine_journal;
mod ready;
mod report;
mod rtnetlink;
mod ruleset;
mod run;
mod served_file;
mod settings;
mod sockets;
mod source_file;
mod table;
mod vouch_input;
mod vouched;
mod worker;
mod worker_process;

pub use cli::Flags;
pub use error::TrapError;
pub use run::run;
