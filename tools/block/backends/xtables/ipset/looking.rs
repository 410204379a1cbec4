//! Whether the sets and their rules are as they should be. Of sets the kernel tells no changes, so that they are looked at.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::Ipset;
use super::elements::{Element, Times, is_of_ports, is_unproven};
use super::matches::is_ours;
use super::message::Header;
use crate::backend::{Noticed, Proof};
use crate::backends::SOMEBODY;
use crate::backends::xtables::hearing::{Chains, Told};
use crate::backends::xtables::place::BUILTIN;
use crate::effort::spent;
use crate::error::Error;

/// How far an entry's end may be from its note: both are whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// How many times longer than the processor took an answer about the rules is good for: to ask costs no more than a twentieth
/// of its time, however many entries the kernel counts for it, and what is blocked hundreds of times a second is not looked at
/// each time.
const GOOD_FOR: u32 = 20;

/// How often the rules are read where nobody tells of changes, in spite of as many that match the sets as before.
const READ: Duration = Duration::from_secs(1);

/// When the rules of a family were last known to stand.
pub(super) struct Stood {
    /// How many rules matched each set.
    references: Vec<u32>,
    /// When the rules were read, and when it was asked how many match each set.
    read: Instant,
    asked: Instant,
    took: Duration,
}

/// What was last seen in the sets of a family, and how many blocks should have stood then.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Seen {
    entries: Vec<u32>,
    should: Proof,
}

impl Ipset {
    /// Hears what others did to the rules.
    pub(super) fn hear(&mut self) {
        let told = self.listening.hear(Chains { ours: &[], builtin: &BUILTIN });
        if told != Told::default() {
            self.stood = [None, None];
            self.heard = told;
        }
    }

    /// Whether the rules of a family stand as they were made, as far as it was told, or the sets can tell.
    pub(super) fn stood(&mut self, ipv4: bool) -> Result<bool, Error> {
        self.hear();
        let deaf = self.listening.is_deaf();
        let at = usize::from(!ipv4);
        match self.stood.get(at) {
            Some(Some(stood)) if !deaf || stood.asked.elapsed() < stood.took * GOOD_FOR => return Ok(true),
            Some(Some(_)) => {}
            _ => return Ok(false),
        }
        let asked = Instant::now();
        let (headers, took) = spent(|| self.headers(ipv4));
        let headers = headers?;
        let Some(known) = self.stood.get_mut(at) else { return Ok(false) };
        // What does not stand is not good for any time: should it not be made, the next one asks anew.
        let same = headers.map(|headers| references(&headers));
        let stood = known.take().filter(|stood| same.as_ref() == Some(&stood.references));
        *known = stood.map(|stood| Stood { asked, took, ..stood });
        Ok(known.is_some())
    }

    /// The rules of a family have just been read, and stand: from now on it is only asked how many match its sets.
    pub(super) fn stands(&mut self, ipv4: bool) -> Result<(), Error> {
        let asked = Instant::now();
        let (headers, took) = spent(|| self.headers(ipv4));
        let matched = headers?.filter(|headers| self.are_matched(ipv4, headers));
        let stood =
            matched.map(|headers| Stood { references: references(&headers), read: asked, asked, took });
        if let Some(known) = self.stood.get_mut(usize::from(!ipv4)) {
            *known = stood;
        }
        Ok(())
    }

    /// What the kernel says of the sets of a family; `None`: one is missing.
    fn headers(&mut self, ipv4: bool) -> Result<Option<Vec<Header>>, Error> {
        self.names(ipv4).map(|name| self.sets.header(name)).collect()
    }

    /// Whether as many rules match each set as should, or more. If not, one of ours is gone.
    fn are_matched(&self, ipv4: bool, headers: &[Header]) -> bool {
        self.names(ipv4).zip(headers).all(|(name, header)| {
            let wanted = BUILTIN.iter().flat_map(|chain| self.wanted(ipv4, chain));
            let wanted = wanted.filter(|rule| rule.split(' ').any(|word| word == name)).count();
            header.references as usize >= wanted
        })
    }

    /// Whether the rules that match a family's sets are as they should be. Where nobody tells of changes they are read once a
    /// second, or when another number matches.
    fn rules_stand(&mut self, ipv4: bool, headers: &[Header]) -> Result<bool, Error> {
        let Some(filter) = self.filters.of(ipv4) else { return Ok(true) };
        if !self.are_matched(ipv4, headers) {
            return Ok(false);
        }
        let known = self.stood.get(usize::from(!ipv4)).and_then(Option::as_ref);
        let same = known.is_some_and(|stood| {
            let told = !self.listening.is_deaf() || stood.read.elapsed() < READ;
            told && stood.references == references(headers)
        });
        if same {
            return Ok(true);
        }
        let rules = filter.rules()?;
        self.order.look(filter, &rules, |rule| is_ours(rule, ipv4));
        let stand = self.placing(filter, &rules)?.commands.is_empty();
        if stand {
            self.stands(ipv4)?;
        }
        Ok(stand)
    }

    /// Whether the sets of a family are as they should be.
    pub(super) fn look_at(&mut self, ipv4: bool, should: Proof, noticed: &mut Noticed) -> Result<(), Error> {
        if should.all() == 0 || self.filters.of(ipv4).is_none() {
            return Ok(());
        }
        let somebody = || Some(SOMEBODY.to_owned());
        let Some(headers) = self.headers(ipv4)? else {
            noticed.damaged = somebody();
            return Ok(());
        };
        if !self.rules_stand(ipv4, &headers)? {
            noticed.damaged = somebody();
        }
        let entries = headers.iter().map(|header| header.entries).collect();
        let now_seen = Seen { entries, should };
        let Some(seen) = self.seen.get_mut(usize::from(!ipv4)) else { return Ok(()) };
        let same = *seen == now_seen;
        *seen = now_seen;
        // Of whom single ports are shut there are as many entries as ports: they are counted only when they change.
        let is_whole = |name: &str, unproven: bool| !is_of_ports(name) && is_unproven(name) == unproven;
        let enough = |unproven: bool| {
            let whole = self.names(ipv4).zip(&headers).find(|(name, _)| is_whole(name, unproven));
            whole.map_or(0, |(_, header)| header.entries as usize) >= should.of(unproven)
        };
        if noticed.damaged.is_some() || (self.ports && same) || (enough(false) && enough(true)) {
            return Ok(());
        }
        let stand = self.all(ipv4, Timestamp::now())?;
        for unproven in [false, true] {
            let those = |element: &&Element| element.entry.unproven == unproven;
            let stand: Vec<&Element> = stand.iter().filter(those).collect();
            let scopes: HashSet<Prefix> = stand.iter().map(|element| element.entry.scope).collect();
            // Counted before the last of them was put in.
            if scopes.len() >= should.of(unproven) {
                continue;
            }
            let emptied = stand.is_empty() && should.of(unproven) > 1;
            if emptied || stand.iter().any(|element| is_old(element.times)) {
                noticed.damaged = somebody();
            } else {
                noticed.edited = somebody();
            }
        }
        Ok(())
    }
}

fn references(headers: &[Header]) -> Vec<u32> {
    headers.iter().map(|header| header.references).collect()
}

/// Whoever loads what he saved a while ago brings back old times with it.
fn is_old((kernel, noted): Times) -> bool {
    matches!((kernel, noted), (None, Some(_)))
        || kernel.zip(noted).is_some_and(|(kernel, noted)| kernel.since(noted) > SLACK)
}
