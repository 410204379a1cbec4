//! What a running judge remembers of an address, from its state on disk: read, and neither locked nor changed.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use psentry_records::{Kind, Prefix, Proto, Timestamp};
use psentry_stage::printable;
use serde::Serialize;

use super::Moments;
use crate::memory::{Contact, Source};
use crate::rules::rounded;
use crate::run::OBSERVED;
use crate::tally::Tally;
use crate::{JudgeError, Policy, State, journal, wording};

/// What is remembered of one source.
#[derive(Serialize)]
pub(super) struct SavedSource {
    scope: Prefix,
    /// Where the stream was when the state was last saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    ports: Vec<SavedContact>,
    score: f64,
    proven: f64,
    packets: u32,
    offences: u32,
    /// The conviction that is in force: whether it is by handshakes, only watched, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    convicted: Option<Convicted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vouched: Option<String>,
    /// The prefix around it that is blocked as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<Prefix>,
    #[serde(skip)]
    observed: bool,
}

#[derive(Serialize)]
struct Convicted {
    proven: bool,
    watched: bool,
    until: Timestamp,
}

/// One contact, as it is printed.
#[derive(Serialize)]
struct SavedContact {
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    proto: Proto,
    kinds: Vec<Kind>,
    handshake: bool,
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

impl SavedContact {
    fn of(contact: &Contact) -> Self {
        SavedContact {
            port: contact.port(),
            proto: contact.proto(),
            kinds: Contact::kinds(std::iter::once(contact)),
            handshake: contact.handshake(),
            count: contact.count(),
            first: contact.first(),
            last: contact.last(),
        }
    }
}

impl SavedSource {
    pub(super) fn read(
        folder: &Path,
        policy: &Policy,
        address: IpAddr,
        moments: &Moments,
    ) -> Result<SavedSource, JudgeError> {
        // Room for what is about it, which is at most itself, its /64, and its prefixes.
        let mut state = State::new(16);
        journal::read_about(folder, &mut state, Prefix::host(address))?;
        let scope = policy.scope(address, &state.machine);
        let now = state.clock.now();
        let source = state.sources.peek(scope);
        let tally = source.map(|source| Tally::of(source, scope, policy)).unwrap_or_default();
        // A judge that only observes remembers what it would have had blocked.
        let observed = policy.block.observe || folder.ends_with(OBSERVED);
        let in_force = |source: &&Source| now.is_some_and(|now| source.until() > now);
        let convicted = source.filter(in_force).and_then(|source| {
            let conviction = source.conviction()?;
            Some(Convicted {
                proven: conviction.proven,
                watched: observed || conviction.watch_only,
                until: source.until(),
            })
        });
        Ok(SavedSource {
            scope,
            as_of: now,
            ports: source.map(|source| source.contacts().map(SavedContact::of).collect()).unwrap_or_default(),
            score: rounded(tally.all.score),
            proven: rounded(tally.proven.score),
            packets: source.map_or(0, Source::packets),
            offences: source.map_or(0, Source::offences),
            convicted,
            vouched: now
                .and_then(|now| state.vouchers.active(scope, now))
                .map(|voucher| voucher.describe_at(|moment| moments.of(moment))),
            prefix: now.and_then(|now| state.sweeps.release(&policy.sweep, scope, now).pop()),
            observed,
        })
    }

    /// Prints it for a person.
    pub(super) fn table(&self, out: &mut impl Write, moments: &Moments) -> io::Result<()> {
        let Some(as_of) = self.as_of else { return writeln!(out, "\nThe judge remembers nothing yet.") };
        writeln!(out, "\nThe judge remembers of {}, as of {}:", self.scope, moments.of(as_of))?;
        for touched in &self.ports {
            let port = wording::port(touched.port, touched.proto);
            let proof = if touched.handshake { ", handshake" } else { "" };
            writeln!(out, "{:<23}  {port}{proof}, {} in all", moments.of(touched.last), touched.count)?;
        }
        let (score, proven, packets) = (self.score, self.proven, self.packets);
        writeln!(
            out,
            "score {score:.3}, by handshakes {proven:.3}; {packets} packets, offences: {}",
            self.offences
        )?;
        if let Some(Convicted { proven, watched, until }) = &self.convicted {
            let how = if *proven { "by handshakes" } else { "by packets that could be forged" };
            let what = if *watched { "only watched" } else { "blocked" };
            writeln!(out, "Convicted {how}, {}, and {what}.", moments.end(Some(*until)))?;
        }
        if let Some(prefix) = &self.prefix {
            let what = if self.observed { "only watched" } else { "blocked" };
            writeln!(out, "All of {prefix} is convicted with it, and {what}.")?;
        }
        if let Some(vouched) = &self.vouched {
            writeln!(out, "{}.", printable(vouched))?;
        }
        Ok(())
    }
}
