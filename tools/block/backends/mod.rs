//! The backends, one module each, and how a name on the command line becomes one.
//!
//! What else one takes is in ARCHITECTURE.md, "Where to add something".

mod dry_run;
mod exec;
pub mod hosts_deny;
pub mod nft;
mod route;
mod set_elements;
mod xtables;

use std::collections::HashMap;

use psentry_linux::Program;
use psentry_records::Prefix;

use crate::backend::{Backend, Op};
use crate::cli::{Flags, Which};
use crate::error::Error;

/// The backend of that name, set up as the flags say; nothing of the system is touched yet. Whether its programs are there it says
/// when it is used, so that it fails alone.
///
/// # Errors
/// When the flags do not fit, or the kernel has no netlink.
pub fn open(which: Which, flags: &Flags) -> Result<Box<dyn Backend>, Error> {
    let reach = flags.reach();
    Ok(match which {
        Which::Nft => Box::new(nft::Nft::open(reach)?),
        Which::Iptables => Box::new(xtables::Iptables::new(reach)),
        Which::Ipset => Box::new(xtables::Ipset::open(reach)?),
        Which::Route => Box::new(route::Route::open(reach)?),
        Which::HostsDeny => Box::new(hosts_deny::HostsDeny::new(&flags.hosts_deny)),
        Which::Exec => Box::new(exec::Exec::new(flags)?),
        Which::DryRun => Box::new(dry_run::DryRun),
    })
}

/// Whether the flags fit and the programs are there, without touching anything.
///
/// # Errors
/// What is missing or wrong.
pub fn check(which: Which, flags: &Flags) -> Result<(), Error> {
    let needed: &[(&'static str, &[&str])] = match which {
        Which::Nft => &[("nft", &["nft"])],
        Which::Iptables => &[("iptables", &xtables::PROGRAMS)],
        Which::Ipset => &[("ipset", &["ipset"]), ("ipset", &xtables::PROGRAMS)],
        Which::HostsDeny => return hosts_deny::HostsDeny::new(&flags.hosts_deny).check(),
        Which::Exec => return exec::Exec::new(flags)?.check(),
        Which::Route | Which::DryRun => &[],
    };
    for (backend, programs) in needed {
        for program in *programs {
            installed(backend, program)?;
        }
    }
    Ok(())
}

/// The results of operations that were applied in another order, in theirs.
fn in_order(
    ops: &[Op],
    done: impl IntoIterator<Item = (Prefix, Result<(), Error>)>,
) -> Vec<Result<(), Error>> {
    let mut done: HashMap<Prefix, Result<(), Error>> = done.into_iter().collect();
    let missing =
        || Err(Error::Unfinished("an operation has no result; this is a bug of psentry".to_owned()));
    ops.iter().map(|op| done.remove(&op.scope()).unwrap_or_else(missing)).collect()
}

/// For `map_err`: why the kernel did not do what a backend asked.
fn failed(backend: &'static str) -> impl Fn(psentry_linux::Error) -> Error {
    move |error| if error.is_permission() { Error::NotPermitted { backend } } else { error.into() }
}

/// The program that a backend needs.
fn installed(backend: &'static str, program: &str) -> Result<Program, Error> {
    Program::find(program).ok_or_else(|| Error::Missing { backend, program: program.to_owned() })
}
