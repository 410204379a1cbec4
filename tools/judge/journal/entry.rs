//! The lines of the state file: JSON, one change a line. They do not depend on the policy, so that a state
//! can be read under another one.

use psentry_records::{Machine, Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use crate::brake::Brake;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::machine::MachineFacts;
use crate::memory::{Contact, ContactEntry, Source};
use crate::state::State;
use crate::sweeps::Sweep;
use crate::vouchers::Voucher;

/// The file of changes, in the folder of `--state`.
pub(super) const FILE: &str = "state.jsonl";

/// What the first line says, so that no other file is taken for one.
pub(crate) const FORM: &str = "psentry-judge state 1";

/// One change of the state, a line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Entry {
    /// What kind of file this is: the first line.
    Form(String),
    /// A source, as it is from now on.
    Source(SourceEntry),
    /// A source that was evicted.
    Gone(Prefix),
    /// Somebody logged in; without more it has ended.
    Vouch(Prefix, Option<Voucher>),
    /// A prefix in which sources were convicted; without more it was forgotten.
    Sweep(Prefix, Option<Sweep>),
    /// What psentry-trap said last of the machine.
    Machine(MachineEntry),
    /// The rest, which is small.
    Rest(Rest),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SourceEntry {
    scope: Prefix,
    numbers: (i64, u16, u16, u8, u8),
    contacts: Vec<ContactEntry>,
}

/// The machine: own networks, those inside, first and last port of its clients.
#[derive(Serialize, Deserialize)]
pub(crate) struct MachineEntry(Vec<Prefix>, Vec<Prefix>, (u16, u16));

/// What is written anew with every change.
#[derive(Serialize, Deserialize)]
pub(crate) struct Rest {
    clock: Clock,
    brake: Brake,
    counters: Counters,
    evicted: u64,
    #[serde(default, rename = "told")]
    stats_at: Option<i64>,
}

impl Entry {
    /// Whether it matters to that scope.
    pub(crate) fn concerns(&self, asked: Prefix) -> bool {
        match self {
            Entry::Source(SourceEntry { scope, .. })
            | Entry::Gone(scope)
            | Entry::Vouch(scope, _)
            | Entry::Sweep(scope, _) => scope.overlaps(asked),
            Entry::Form(_) | Entry::Machine(_) | Entry::Rest(_) => true,
        }
    }

    pub(crate) fn source(scope: Prefix, source: &Source) -> Self {
        let contacts = source.contacts().map(Contact::entry).collect();
        Entry::Source(SourceEntry { scope, numbers: source.numbers(), contacts })
    }

    pub(crate) fn machine(state: &State) -> Self {
        let said = state.machine.said();
        Entry::Machine(MachineEntry(
            said.own_networks.clone(),
            said.inside_networks.clone(),
            said.client_ports,
        ))
    }

    pub(crate) fn rest(state: &State) -> Self {
        Entry::Rest(Rest {
            clock: state.clock,
            brake: state.brake.clone(),
            counters: state.counters,
            evicted: state.sources.evicted(),
            stats_at: state.stats_at.map(Timestamp::micros),
        })
    }

    /// Makes what the line says part of the state.
    pub(crate) fn apply(self, state: &mut State) {
        match self {
            Entry::Form(_) => {}
            Entry::Source(SourceEntry { scope, numbers, contacts }) => {
                let contacts: Vec<Contact> = contacts.iter().map(Contact::from_entry).collect();
                state.sources.restore(scope, Source::from_numbers(numbers, &contacts));
            }
            Entry::Gone(scope) => state.sources.remove(scope),
            Entry::Vouch(scope, voucher) => state.vouchers.restore(scope, voucher),
            Entry::Sweep(prefix, sweep) => state.sweeps.restore(prefix, sweep),
            Entry::Machine(MachineEntry(own_networks, inside_networks, client_ports)) => {
                state.machine = MachineFacts::of(Machine { own_networks, inside_networks, client_ports });
            }
            Entry::Rest(rest) => {
                (state.clock, state.brake) = (rest.clock, rest.brake);
                state.counters = Some(rest.counters).filter(Counters::are_plausible).unwrap_or_default();
                state.sources.set_evicted(rest.evicted.min(u64::MAX / 2));
                state.stats_at = rest.stats_at.and_then(Timestamp::from_micros);
            }
        }
    }
}
