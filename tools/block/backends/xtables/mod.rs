//! What the backends iptables and ipset share: the filter tables of iptables and ip6tables, in the variant that
//! speaks to nf_tables as in the legacy one. Rules are read with `-S` and changed with `iptables-restore
//! --noflush`, all of a batch in one step.
//!
//! | what others do is known by | |
//! |---|---|
//! | `hearing.rs` | rules that nf_tables keeps: the kernel tells |
//! | `ipset/looking.rs` | sets of ipset: the kernel tells nothing, and is asked how many entries they have |
//! | `-S` | rules of the legacy variant: the kernel tells nothing, and they are read again |
//! | `ours.rs`, `book.rs` | whether it was this psentry-block itself, or a command of it |
//! | `order.rs` | what stands before our rule |

mod book;
mod families;
mod ground;
mod hearing;
mod ipset;
mod iptables;
mod listening;
mod order;
mod ours;
mod place;
mod rules;

use std::time::Duration;

pub(super) use self::ipset::Ipset;
pub(super) use self::iptables::Iptables;
use self::rules::Rules;
use crate::error::Error;
use crate::lock::Lock;
use psentry_linux::{Error as Below, Program};

/// How many seconds the programs wait for each other's lock (legacy).
const WAIT: &str = "20";

/// What the legacy variant says to those who are not root.
const NOT_ROOT: &str = "you must be root";

/// The filter table of one family.
pub(super) struct Filter {
    backend: &'static str,
    ipv4: bool,
    iptables: Program,
    restore: Program,
}

/// The programs that the filter tables need.
pub(super) const PROGRAMS: [&str; 2] = ["iptables", "iptables-restore"];

impl Filter {
    /// What a machine without the family says of a block of it.
    fn absent(ipv4: bool) -> Error {
        let family = if ipv4 { "IPv4" } else { "IPv6" };
        Error::NoEffect(format!("the kernel of this machine has no {family}, so there is nothing to block"))
    }

    /// The program that shows its rules.
    fn program(&self) -> &'static str {
        if self.ipv4 { "iptables" } else { "ip6tables" }
    }

    /// The rules that stand.
    fn rules(&self) -> Result<Rules, Error> {
        let listed =
            self.iptables.run_checked(&["-w", WAIT, "-S"], b"").map_err(|error| self.explain(error))?;
        Ok(Rules::read(&String::from_utf8_lossy(&listed)))
    }

    /// Makes changes, in the words of iptables: all, or none.
    fn change(&self, commands: &[String]) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        let script = format!("*filter\n{}\nCOMMIT\n", commands.join("\n"));
        let mut runs = ours::begin();
        let (_, process) = self
            .restore
            .run_checked_with_pid(&["-w", WAIT, "--noflush"], script.as_bytes())
            .map_err(|error| self.explain(error))?;
        runs.add(process);
        Ok(())
    }

    fn is_nf_tables(&self) -> Result<bool, Error> {
        let version = self.iptables.run_checked(&["-V"], b"")?;
        Ok(String::from_utf8_lossy(&version).contains("nf_tables"))
    }

    fn explain(&self, error: Below) -> Error {
        match error {
            Below::Program { stderr, .. } if stderr.contains(NOT_ROOT) => {
                Error::NotPermitted { backend: self.backend }
            }
            error => error.into(),
        }
    }
}

/// How often it is looked what stands, where the kernel does not tell of changes: what others take away is back within a
/// second.
const LOOK: Duration = Duration::from_millis(500);

/// How many times longer than a look, which reads all rules, the pause before the next one is at least.
const REST: u32 = 8;

/// The lock on both tables: they are read, changed and written back.
fn lock() -> Result<Lock, Error> {
    Lock::named("xtables.lock")
}
