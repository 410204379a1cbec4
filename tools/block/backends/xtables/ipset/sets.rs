//! The sets in the kernel. What is in them is listed and changed over netlink, in microseconds; the program ipset, which
//! knows what each kernel can, makes and destroys them.

use std::path::Path;
use std::thread;
use std::time::Duration;

use netlink_packet_core::NetlinkHeader;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use psentry_linux::{Error as Below, NetlinkSocket, Request};

use super::NAME;
use super::elements::is_of_ports;
use super::message::{self, Header, Kept, Key};
use crate::backends::installed;
use crate::error::Error;

/// How many entries a set holds.
const SIZE: u32 = 262_144;

/// How many requests go to the kernel at most at once.
const TOGETHER: usize = 1000;

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The answer of ipset that a set is full, IPSET_ERR_HASH_FULL (linux/netfilter/ipset/ip_set.h).
const FULL: i32 = 4352;

/// A way to the sets.
pub(super) struct Sets {
    link: NetlinkSocket,
}

/// A change of one set.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) set: &'static str,
    pub(super) key: Key,
    /// Adds the element, or gives the one that is there these seconds and this comment; `None`: deletes it.
    pub(super) add: Option<(u32, String)>,
}

impl Sets {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Sets { link: NetlinkSocket::open(NETLINK_NETFILTER)? })
    }

    /// What the kernel says of a set; `None`: there is none of that name. The kernel counts the entries for it, which takes
    /// some milliseconds for a hundred thousand.
    pub(super) fn header(&mut self, set: &str) -> Result<Option<Header>, Error> {
        let read = |_: &_, message: &[u8]| Ok(message::header(message));
        let answer = self.dump("count the entries of a set", &message::header_of(set), read)?;
        Ok(answer.and_then(|answer| answer.into_iter().flatten().next()))
    }

    /// What is in a set; `None`: there is no such set.
    pub(super) fn elements(&mut self, set: &str) -> Result<Option<Vec<Kept>>, Error> {
        let read = |_: &_, message: &[u8]| Ok(message::elements(message));
        let kept = self.dump("list the entries of a set", &message::list(set), read)?;
        Ok(kept.map(|kept| kept.into_iter().flatten().collect()))
    }

    fn dump<T>(
        &mut self,
        doing: &'static str,
        question: &NetfilterMessage,
        read: impl Fn(&NetlinkHeader, &[u8]) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, Error> {
        match self.link.dump_with(doing, question, read)? {
            Ok(answer) => Ok(Some(answer)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// Changes sets, and says of each step whether it is done. What was not there to be deleted is no error.
    pub(super) fn change(&mut self, steps: &[&Step]) -> Vec<Result<(), Error>> {
        let mut done = Vec::with_capacity(steps.len());
        for steps in steps.chunks(self.link.ack_capacity().min(TOGETHER)) {
            let request = |Step { set, key, add }: &&Step| {
                let message = match add {
                    Some((seconds, comment)) => message::add(set, *key, *seconds, comment),
                    None => message::delete(set, *key),
                };
                Request { message, flags: 0, acked: true }
            };
            match self.link.batch_codes("change a set", steps.iter().map(request).collect()) {
                Ok(codes) => {
                    let each = steps.iter().zip(codes);
                    done.extend(each.map(|(step, code)| self.confirm(step, code)));
                }
                Err(error) => done.extend(steps.iter().map(|_| Err(Error::from(error.clone())))),
            }
        }
        done
    }

    fn confirm(&mut self, step: &Step, code: i32) -> Result<(), Error> {
        let doing = if step.add.is_some() { "block" } else { "unblock" };
        match (code, Errno::from_raw(code)) {
            (0, _) => Ok(()),
            (_, Errno::ENOENT) if step.add.is_none() => Ok(()),
            (FULL, _) => {
                let size = self.header(step.set)?.map_or(SIZE, |header| header.size);
                Err(Error::Full { what: format!("ipset's set {}", step.set), size })
            }
            (_, Errno::UnknownErrno) => {
                Err(Below::Netlink { doing, why: format!("ipset's error {code}") }.into())
            }
            (_, errno) => Err(refused(doing, errno)),
        }
    }

    /// Makes a set.
    pub(super) fn make(&self, name: &str, ipv4: bool) -> Result<(), Error> {
        let command = creation(name, ipv4);
        self.run(&command.split(' ').collect::<Vec<_>>())
    }

    /// Destroys a set, if it is there, once no packet is on its way any more through a rule that is gone.
    pub(super) fn destroy(&mut self, name: &str) -> Result<(), Error> {
        let mut tries = 0;
        while self.header(name)?.is_some() {
            match self.run(&["destroy", name]) {
                Err(_) if tries < TRIES => {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
        Ok(())
    }

    fn run(&self, args: &[&str]) -> Result<(), Error> {
        installed(NAME, NAME)?.run_checked(args, b"").map(drop).map_err(|error| match error {
            Below::Program { stderr, .. } if stderr.contains("Operation not permitted") => {
                Error::NotPermitted { backend: NAME }
            }
            error => error.into(),
        })
    }
}

/// The arguments with which ipset makes a set. units/psentry-ipset-sets.service makes the same ones.
fn creation(name: &str, ipv4: bool) -> String {
    let kind = if is_of_ports(name) { "hash:net,port" } else { "hash:net" };
    let family = if ipv4 { "inet" } else { "inet6" };
    format!("-exist create {name} {kind} family {family} timeout 0 maxelem {SIZE} comment")
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match (Below::Refused { doing, errno }) {
        error if error.is_permission() => Error::NotPermitted { backend: NAME },
        error => error.into(),
    }
}

/// Where netfilter-persistent and the like keep rules. Only root may read most of them, so that it counts that they are there.
const SAVED: [&str; 5] = [
    "etc/iptables/rules.v4",
    "etc/iptables/rules.v6",
    "etc/iptables/iptables.rules",
    "etc/sysconfig/iptables",
    "etc/sysconfig/ip6tables",
];

/// What has the unit started at boot: enabled, or by psentry-generator.
const WANTED: [&str; 3] = ["etc/systemd/system", "run/systemd/generator", "usr/lib/systemd/system"];

/// Whether rules that somebody saves now would not be loaded at boot, because they match sets that are not there by then: what to
/// do about it, as a sentence.
pub(super) fn saved_rules_warning(root: &Path) -> Option<String> {
    let saved = SAVED.into_iter().find(|file| root.join(file).exists())?;
    let link = "sysinit.target.wants/psentry-ipset-sets.service";
    let made_before = WANTED.into_iter().any(|directory| root.join(directory).join(link).is_symlink());
    (!made_before).then(|| {
        format!(
            "/{saved} is there: if rules are saved while psentry runs, they match its sets, and no rule is loaded at boot without \
             these; enable psentry-ipset-sets.service, or delete psentry's lines from what is saved"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::super::FAMILIES;
    use super::super::elements::sets;
    use super::*;

    /// Saved rules that match a set are not loaded, nor any of the firewall, while it is missing.
    #[test]
    fn the_unit_makes_the_same_sets_before_saved_rules_are_loaded() {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../units/psentry-ipset-sets.service");
        let unit = fs::read_to_string(unit).unwrap();
        let started: Vec<&str> =
            unit.lines().filter_map(|line| line.strip_prefix("ExecStart=ipset ")).collect();
        let all = FAMILIES.iter().flat_map(|ipv4| sets(*ipv4).map(|name| creation(name, *ipv4)));
        assert_eq!(started, all.collect::<Vec<_>>());
    }

    #[test]
    fn only_who_saves_rules_and_makes_no_sets_before_is_warned() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(saved_rules_warning(root.path()), None);
        let file = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        fs::write(file("etc/iptables/rules.v6"), "").unwrap();
        let said = saved_rules_warning(root.path()).unwrap();
        assert!(said.starts_with("/etc/iptables/rules.v6 is there"), "{said}");
        let link = file("run/systemd/generator/sysinit.target.wants/psentry-ipset-sets.service");
        symlink("/usr/local/lib/systemd/system/psentry-ipset-sets.service", link).unwrap();
        assert_eq!(saved_rules_warning(root.path()), None);
    }
}
