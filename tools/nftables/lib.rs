//! nftables over netlink, without a process for each change: what is in a table of the family `inet`, elements that are added to
//! its sets and deleted in transactions, and what others do to it. Tables, chains, sets and rules are made with nft(8), whose
//! text can be read. What a table is for is its owner's business; it owns nothing itself.
//!
//! Messages are written and read attribute by attribute: the crate of nftables' messages allocates several values for each element,
//! which takes seconds for some thousands.
//!
//! | file | what it holds |
//! |---|---|
//! | `table.rs` | a table: its flags, chains, rules, sets and elements, and the generation of the ruleset |
//! | `decode.rs` | those, read from messages |
//! | `transaction.rs` | elements added and deleted, all or none |
//! | `notification.rs` | what the kernel notifies of a change |
//! | `table_monitor.rs` | what others do to a table, by these notifications |
//! | `iptables.rs` | the filter tables of iptables, where nf_tables keeps them: whether their rules may have changed |
//! | `uapi.rs` | the numbers of the interface |

#![forbid(unsafe_code)]

mod decode;
mod iptables;
mod notification;
mod table;
mod table_monitor;
mod transaction;
mod uapi;

pub use decode::{Chain, Element, Rule, Set, Verdict};
pub use iptables::IptablesMonitor;
pub use notification::Object;
pub use table::Table;
pub use table_monitor::{TableChange, TableMonitor};
pub use transaction::{NewElement, Transaction};
