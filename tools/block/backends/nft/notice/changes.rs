//! What one transaction of others did to our table, taken down message by message as nftables tells it, and who made it. What
//! it comes to is decided in `notice.rs`.

use std::collections::BTreeMap;

use psentry_records::{Prefix, Timestamp};

use super::super::super::SOMEBODY;
use super::super::super::attributes::{attribute, text};
use super::super::reading::{HEADER, entries, scopes};
use super::super::rules::{is_dormant, lets_pass};
use super::super::ruleset::TABLE;
use super::super::sets::{SIZE, SetId};
use crate::backend::Entry;

// Numbers of messages and attributes, from linux/netfilter/nf_tables.h.
pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const NEW_TABLE: u16 = 0;
pub(super) const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(super) const NEW_RULE: u16 = 6;
pub(super) const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENTS: u16 = 12;
pub(super) const DELETE_ELEMENTS: u16 = 14;
pub(super) const NEW_GENERATION: u16 = 15;
pub(super) const ITS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const PROCESS: u16 = 2;
pub(super) const PROCESS_NAME: u16 = 3;

/// The family `inet`, as a message begins with it.
pub(super) const INET: u8 = 1;

/// What one transaction of others took away, and added.
#[derive(Default)]
pub(super) struct Transaction {
    /// Some of it was not told: whoever made it need not be who did the damage.
    pub(super) lost: bool,
    pub(super) table: bool,
    pub(super) damage: bool,
    pub(super) added: bool,
    /// A rule that accepts was put among ours.
    pub(super) ruled: bool,
    /// What was added, if psentry did.
    pub(super) decided: BTreeMap<Prefix, Entry>,
    pub(super) elements: BTreeMap<SetId, Vec<Prefix>>,
}

impl Transaction {
    /// Takes down one message of it; `psentry`: it is from another process of psentry.
    pub(super) fn hear(&mut self, kind: u16, message: &[u8], psentry: bool) {
        let table = value(message, ITS_TABLE).map(text);
        if message.first() != Some(&INET) || table != Some(TABLE.as_bytes()) {
            return;
        }
        match kind {
            NEW_TABLE => self.damage |= is_dormant(message),
            NEW_RULE => self.ruled |= lets_pass(message),
            NEW_CHAIN | NEW_SET => {}
            DELETE_TABLE => self.table = true,
            NEW_ELEMENTS => {
                self.added = true;
                let set = value(message, ELEMENTS_SET).and_then(set);
                if let Some(set) = set.filter(|_| psentry) {
                    let entries = entries(set, message, Timestamp::now()).into_iter();
                    for entry in entries {
                        let joined = self.decided.get(&entry.scope).map(|other| other.joined(&entry));
                        self.decided.insert(entry.scope, joined.unwrap_or(entry));
                    }
                }
            }
            DELETE_ELEMENTS => match value(message, ELEMENTS_SET).and_then(set) {
                Some(set) => {
                    if !self.decided.is_empty() {
                        scopes(set, message).for_each(|scope| _ = self.decided.remove(&scope));
                    }
                    let gone = self.elements.entry(set).or_default();
                    let room = (SIZE as usize).saturating_sub(gone.len());
                    gone.extend(scopes(set, message).take(room));
                }
                // A set of somebody else's.
                None => self.damage = true,
            },
            // A chain, a rule, a set, or what we do not know.
            _ => self.damage = true,
        }
    }
}

/// Who made a transaction, in words.
pub(super) fn author(message: &[u8], psentry: bool) -> String {
    let name = value(message, PROCESS_NAME).map(text).unwrap_or_default();
    // A running psentry-block has threads with names of their own.
    let name = if psentry { b"psentry-block" } else { name };
    // Whoever runs a program chooses its name.
    let name: String =
        name.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect();
    let process = value(message, PROCESS).and_then(|value| value.first_chunk::<4>());
    match process {
        Some(process) => format!("'{name}' (process {})", u32::from_be_bytes(*process)),
        None => SOMEBODY.to_owned(),
    }
}

pub(super) fn value(message: &[u8], wanted: u16) -> Option<&[u8]> {
    attribute(message.get(HEADER..)?, wanted)
}

pub(super) fn set(name: &[u8]) -> Option<SetId> {
    SetId::from_name(std::str::from_utf8(text(name)).ok()?)
}
