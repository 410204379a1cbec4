//! Sets of ipset over netlink, in microseconds, without a process for each change: counted, listed and changed. The program ipset,
//! which knows what each kernel can, makes and destroys them.

pub(crate) mod expected_entries;
pub(crate) mod message;

use std::thread;
use std::time::Duration;

use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use self::message::{SetElement, SetHeader, SetKey};
use crate::command::Program;
use crate::error::Error;
use crate::netlink::{NetlinkSocket, Request};

/// How many requests go to the kernel at most at once.
const TOGETHER: usize = 1000;

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The answer of ipset that a set is full, IPSET_ERR_HASH_FULL (linux/netfilter/ipset/ip_set.h).
const FULL: i32 = 4352;

/// A way to the sets.
pub struct IpSets {
    link: NetlinkSocket,
}

/// A change of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetChange {
    /// The name of the set.
    pub set: &'static str,
    /// The element.
    pub key: SetKey,
    /// Adds the element, or gives the one that is there these seconds and this comment; `None`: deletes it.
    pub add: Option<(u32, String)>,
}

/// Why a change was not made.
#[derive(Clone, Debug)]
pub enum SetError {
    /// The set has no room left.
    Full,
    /// Something else.
    Other(Error),
}

impl IpSets {
    /// Connects to ipset.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open() -> Result<Self, Error> {
        Ok(IpSets { link: NetlinkSocket::open(NETLINK_NETFILTER)? })
    }

    /// What the kernel says of a set; `None`: there is none of that name. The kernel counts the entries for it, which takes
    /// some milliseconds for a hundred thousand.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn header(&mut self, set: &str) -> Result<Option<SetHeader>, Error> {
        let answer = self.dump("count the entries of a set", &message::header_of(set), message::header)?;
        Ok(answer.and_then(|answer| answer.into_iter().flatten().next()))
    }

    /// What is in a set; `None`: there is no such set.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn elements(&mut self, set: &str) -> Result<Option<Vec<SetElement>>, Error> {
        let kept = self.dump("list the entries of a set", &message::list(set), message::elements)?;
        Ok(kept.map(|kept| kept.into_iter().flatten().collect()))
    }

    /// Makes a set by the program `ipset`, with these arguments.
    ///
    /// # Errors
    /// When it does not.
    pub fn create(ipset: &Program, arguments: &str) -> Result<(), Error> {
        run(ipset, &arguments.split(' ').collect::<Vec<_>>())
    }

    /// Destroys a set by the program `ipset`, if it is there, once no packet is on its way any more through a rule that is gone.
    ///
    /// # Errors
    /// When it does not.
    pub fn destroy(&mut self, ipset: &Program, set: &str) -> Result<(), Error> {
        let mut tries = 0;
        while self.header(set)?.is_some() {
            match run(ipset, &["destroy", set]) {
                Err(_) if tries < TRIES => {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
        Ok(())
    }

    fn dump<T>(
        &mut self,
        doing: &'static str,
        question: &NetfilterMessage,
        read: impl Fn(&[u8]) -> T,
    ) -> Result<Option<Vec<T>>, Error> {
        match self.link.dump_with(doing, question, |_, message| Ok(read(message)))? {
            Ok(answer) => Ok(Some(answer)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::Refused { doing, errno }),
        }
    }

    /// Makes changes, and says of each whether it is made. What was not there to be deleted is no error.
    pub fn change(&mut self, changes: &[SetChange]) -> Vec<Result<(), SetError>> {
        let mut made = Vec::with_capacity(changes.len());
        for changes in changes.chunks(self.link.ack_capacity().min(TOGETHER)) {
            let request = |SetChange { set, key, add }: &SetChange| {
                let message = match add {
                    Some((seconds, comment)) => message::add(set, *key, *seconds, comment),
                    None => message::delete(set, *key),
                };
                Request { message, flags: 0, acked: true }
            };
            match self.link.batch_codes("change a set", changes.iter().map(request).collect()) {
                Ok(codes) => {
                    made.extend(changes.iter().zip(codes).map(|(change, code)| confirm(change, code)));
                }
                Err(error) => made.extend(changes.iter().map(|_| Err(SetError::Other(error.clone())))),
            }
        }
        made
    }
}

fn run(ipset: &Program, arguments: &[&str]) -> Result<(), Error> {
    match ipset.run_checked(arguments, b"") {
        Err(Error::Program { stderr, .. }) if stderr.contains("Operation not permitted") => {
            Err(Error::Refused { doing: "make or destroy a set", errno: Errno::EPERM })
        }
        result => result.map(drop),
    }
}

/// What the kernel's answer to a change means.
fn confirm(change: &SetChange, code: i32) -> Result<(), SetError> {
    let doing = if change.add.is_some() { "block" } else { "unblock" };
    match (code, Errno::from_raw(code)) {
        (0, _) => Ok(()),
        (_, Errno::ENOENT) if change.add.is_none() => Ok(()),
        (FULL, _) => Err(SetError::Full),
        (_, Errno::UnknownErrno) => {
            Err(SetError::Other(Error::Netlink { doing, why: format!("ipset's error {code}") }))
        }
        (_, errno) => Err(SetError::Other(Error::Refused { doing, errno })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_there_to_be_deleted_is_no_error_and_a_full_set_is_one_of_its_own() {
        let key = ("192.0.2.7".parse().unwrap(), None);
        let add = SetChange { set: "a", key, add: Some((60, String::new())) };
        let delete = SetChange { add: None, ..add.clone() };
        assert!(confirm(&add, 0).is_ok() && confirm(&delete, Errno::ENOENT as i32).is_ok());
        assert!(matches!(confirm(&add, Errno::ENOENT as i32), Err(SetError::Other(_))));
        assert!(matches!(confirm(&add, FULL), Err(SetError::Full)));
        let unknown = confirm(&add, 4099).unwrap_err();
        assert!(
            matches!(unknown, SetError::Other(Error::Netlink { why, .. }) if why == "ipset's error 4099")
        );
    }
}
