//! Linux as several stages need it: netlink, facts of this machine (addresses, gateways, resolvers, sockets), and other
//! programs run with a limit. It owns nothing in the kernel itself; what to change is decided by the stage that calls.
//!
//! | file | what it holds |
//! |---|---|
//! | `netlink.rs`, `netlink/` | a socket for requests to the kernel: batches with an answer to each, dumps, queries |
//! | `netlink_attributes.rs` | attributes of netlink messages, read and written byte by byte |
//! | `netlink_monitor.rs` | a subscription to multicast notifications of changes |
//! | `netlink_portid.rs` | the port ids by which psentry's own changes are recognised |
//! | `host_addresses.rs`, `resolvers.rs` | own addresses, broadcast addresses, default gateways, DNS resolvers |
//! | `host_monitor.rs` | that those may have changed |
//! | `sock_diag.rs`, `sock_diag/` | established connections and listening sockets |
//! | `diag_bytecode.rs` | bytecode with which the kernel selects sockets, by ports or by prefixes |
//! | `conntrack.rs` | requests to connection tracking, and its entries |
//! | `kill_connections.rs`, `flow.rs` | ends connections of blocked addresses |
//! | `ipset.rs`, `ipset/` | sets of ipset: counted, listed, changed; how many entries there should be |
//! | `iptables.rs`, `iptables/` | the filter table of iptables: listed, changed, its rules as text |
//! | `blackhole_routes.rs`, `blackhole_routes/` | blackhole routes of psentry, and notifications of routes |
//! | `command.rs` | nft, iptables and other programs, run without a shell and with a time limit |
//! | `error.rs` | errors, as sentences |

#![forbid(unsafe_code)]

mod blackhole_routes;
mod command;
mod conntrack;
mod diag_bytecode;
mod error;
mod flow;
mod host_addresses;
mod host_monitor;
mod ipset;
mod iptables;
mod kill_connections;
mod netlink;
pub mod netlink_attributes;
pub mod netlink_monitor;
mod netlink_portid;
mod resolvers;
mod sock_diag;

pub use blackhole_routes::BlackholeRoutes;
pub use blackhole_routes::message::{Blackhole, RouteNotification, decode_notification, metric};
pub use command::{CommandOutput, Program, locate, run};
pub use error::Error;
pub use host_addresses::{HostAddresses, host_addresses};
pub use host_monitor::HostMonitor;
pub use ipset::expected_entries::ExpectedEntries;
pub use ipset::message::{SetElement, SetHeader, SetKey};
pub use ipset::{IpSets, SetChange, SetError};
pub use iptables::FilterTable;
pub use iptables::rules::{Rule, Rules};
pub use kill_connections::{ConnectionKiller, Targets};
pub use netlink::{NetlinkSocket, Request};
pub use netlink_monitor::NetlinkMonitor;
pub use netlink_portid::is_psentry_portid;
pub use resolvers::RESOLVER_FILES;
pub use sock_diag::message::Socket;
pub use sock_diag::{Ports, Transport, connections, listening_sockets};
