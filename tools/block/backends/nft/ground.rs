//! What blocks stand in: the table, its chain, the sets and their rules, found in the kernel, and made by nft where
//! something is missing.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::thread;
use std::time::Duration;

use netlink_packet_netfilter::nftables::{NfTablesMessage, SetAttribute, SetMessage};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use nix::errno::Errno;
use psentry_linux::Error as Below;
use psentry_records::Timestamp;

use super::super::installed;
use super::layout::{Standing, Work};
use super::ruleset::{self, TABLE};
use super::sets::{SIZE, SetId};
use super::{NAME, Nft, elements, reading, refused, rules};
use crate::backend::Entry;
use crate::error::Error;

/// How often the ruleset is made anew when somebody else makes or flushes it at the same time.
const TRIES: usize = 4;

/// How often a set is listed until each of its elements is told once, and the pause before it is listed again: to make room
/// for a hundred thousand takes some hundredths of a second.
const LISTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// After how many rounds that went well and did not last somebody else is right about the rules.
const CONTESTED: usize = 2;

impl Nft {
    /// The sets of our table; `None`: there is no table.
    pub(super) fn find_sets(&mut self) -> Result<Option<BTreeSet<SetId>>, Error> {
        let doing = "list the sets of table inet psentry";
        let attributes = vec![SetAttribute::Table(TABLE.to_owned())];
        let question = elements::inet(NfTablesMessage::GetSet(SetMessage { attributes }));
        let answer = match self.link.dump(doing, &question)? {
            Ok(answer) => answer,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(refused(doing, errno)),
        };
        Ok(Some(answer.into_iter().filter_map(set_of).collect()))
    }

    /// How many elements a set takes: one that was there before us may take fewer than ours.
    pub(super) fn size(&mut self, set: SetId) -> u32 {
        let attributes = vec![SetAttribute::Table(TABLE.to_owned()), SetAttribute::Name(set.name())];
        let question = elements::inet(NfTablesMessage::GetSet(SetMessage { attributes }));
        let read = |_: &_, message: &[u8]| Ok(reading::size(message));
        let answer = self.link.query_with("look at a set of table inet psentry", &question, read);
        answer.ok().and_then(Result::ok).into_iter().flatten().flatten().next().unwrap_or(SIZE)
    }

    /// What stands in one set, an entry for each element; it is nothing where the set is gone.
    pub(super) fn entries(&mut self, set: SetId) -> Result<Vec<Entry>, Error> {
        let now = Timestamp::now();
        let known = |entry: &Entry| (entry.scope, entry.proto, entry.ports.clone());
        self.all_of(set, |message| reading::entries(set, message, now), known)
    }

    /// What is read of the elements of a set, each of which is `known` by something; nothing where the set is gone.
    ///
    /// The kernel goes through a set in pieces, and counts where it was. While it makes room for more elements, in the
    /// background and without a word, their order changes: some are told twice, and as many not at all.
    pub(super) fn all_of<T, K: Eq + Hash>(
        &mut self,
        set: SetId,
        read: impl Fn(&[u8]) -> Vec<T>,
        known: impl Fn(&T) -> K,
    ) -> Result<Vec<T>, Error> {
        let doing = "list the blocks of table inet psentry";
        for _ in 0..LISTS {
            let pieces =
                match self.link.dump_with(doing, &elements::list(set), |_, message| Ok(read(message)))? {
                    Ok(pieces) => pieces,
                    Err(Errno::ENOENT) => return Ok(Vec::new()),
                    Err(errno) => return Err(refused(doing, errno)),
                };
            let mut seen = HashSet::new();
            if pieces.len() <= 1 || pieces.iter().flatten().all(|element| seen.insert(known(element))) {
                return Ok(pieces.into_iter().flatten().collect());
            }
            thread::sleep(PAUSE);
        }
        let why = "it told some of them twice, and so not all of them, whenever it was asked".to_owned();
        Err(Below::Netlink { doing, why }.into())
    }

    /// Our chains, and the rules of ours in them.
    fn find_rules(&mut self) -> Result<Standing, Error> {
        let doing = "list the rules of table inet psentry";
        let chains = self.link.dump_with(doing, &rules::chains(), |_, message| Ok(rules::chain(message)))?;
        let rules = self.link.dump_with(doing, &rules::list(), |_, message| Ok(rules::rule(message)))?;
        match (chains, rules) {
            (Ok(chains), Ok(rules)) => Ok(Standing {
                chains: chains.into_iter().flatten().collect(),
                rules: rules.into_iter().flatten().collect(),
            }),
            (Err(Errno::ENOENT), _) | (_, Err(Errno::ENOENT)) => Ok(Standing::default()),
            (Err(errno), _) | (_, Err(errno)) => Err(refused(doing, errno)),
        }
    }

    /// Whether our table sleeps: then nothing in it is asked.
    fn is_dormant(&mut self) -> Result<bool, Error> {
        let doing = "look at table inet psentry";
        let read = |_: &_, message: &[u8]| Ok(Some(rules::is_dormant(message)));
        match self.link.query_with(doing, &rules::table(), read)? {
            Ok(tables) => Ok(tables.into_iter().flatten().any(|dormant| dormant)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// The generation of the whole ruleset.
    pub(super) fn generation(&mut self) -> Result<u32, Error> {
        let doing = "tell the generation of the ruleset";
        let read = |_: &_, message: &[u8]| Ok(rules::generation(message));
        let answer = self.link.query_with(doing, &rules::ask_generation(), read)?;
        let answer = answer.map_err(|errno| refused(doing, errno))?;
        answer.into_iter().flatten().next().ok_or_else(|| refused(doing, Errno::ENODATA))
    }

    /// Makes the table, its chains, whichever of `wanted` is missing, and the rules of every set that has lost them; takes
    /// away chains and rules of other flags; wakes a table that sleeps. Whether something had to be done.
    pub(super) fn make(&mut self, wanted: &BTreeSet<SetId>) -> Result<bool, Error> {
        let mut trouble = None;
        for tried in 0..=TRIES {
            let generation = self.generation()?;
            let standing = self.find_sets()?.unwrap_or_default();
            let sets: BTreeSet<SetId> = wanted.difference(&standing).copied().collect();
            let in_use: BTreeSet<SetId> = standing.union(wanted).copied().collect();
            let rules = self.find_rules()?;
            let work = Work::new(self.extent, &in_use, &sets, &rules);
            self.sets = standing;
            let dormant = self.is_dormant()?;
            if work.is_done() && !dormant {
                self.whole = Some(generation);
                return Ok(tried > 0);
            }
            // A running psentry-block with other flags puts its own rules back each time, and they match these sets, too.
            if tried == CONTESTED && rules.heeds(&in_use) && !dormant && trouble.is_none() {
                return Ok(true);
            }
            let nft = match &self.nft {
                Some(nft) => nft,
                None => self.nft.insert(installed(NAME, "nft")?),
            };
            // A table is woken first, and filled in the next round: at once the kernel does not do both.
            let text = if dormant { ruleset::awake() } else { ruleset::text(&work, self.comments) };
            // If another process was faster, `create` fails as a whole, and the next round sees its sets.
            match nft.run_checked_with_pid(&["-f", "-"], text.as_bytes()) {
                Ok((_, process)) => self.news.made_by(process),
                Err(error) => {
                    // An old one has no comments for tables.
                    self.comments &=
                        !matches!(&error, Below::Program { stderr, .. } if stderr.contains("syntax error"));
                    trouble = Some(error);
                }
            }
        }
        Err(trouble.map_or_else(|| refused("make table inet psentry", Errno::ENOENT), Error::System))
    }
}

fn set_of(message: NetfilterMessage) -> Option<SetId> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewSet(set)) = message.inner else { return None };
    set.attributes.iter().find_map(|attribute| match attribute {
        SetAttribute::Name(name) => SetId::from_name(name),
        _ => None,
    })
}
