//! A verdict: what is to be done about a source, and on what evidence. The judge writes it; a person may too.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Common, Kind, Prefix, Timestamp};

/// What is to be done about a range of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// When it was reached; source and port of the probe that decided it.
    pub common: Common,
    /// The decision and its evidence.
    pub body: VerdictBody,
}

/// The object `verdict` of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictBody {
    /// What is to be done about `scope`.
    pub action: Action,
    /// The addresses that it is about, one or many.
    pub scope: Prefix,
    /// For how many seconds from `timestamp`; absent: until unblocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// How dangerous, 1 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// What the evidence weighs, in the units of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The name of the rule that decided: "sequential", "trigger", "slow", one of the policy's own, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, in one English sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The 1st, 2nd, ... time that this source is convicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offence: Option<u32>,
    /// The ports that were touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// The kinds of the probes that are the evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// How many probes are the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The first probe of the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// When the last of them was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Whether what convicts would do so by completed handshakes alone, which nobody can forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<bool>,
}

impl VerdictBody {
    /// A bare decision, without evidence.
    #[must_use]
    pub fn new(action: Action, scope: Prefix) -> Self {
        VerdictBody {
            action,
            scope,
            duration: None,
            level: None,
            score: None,
            rule: None,
            reason: None,
            offence: None,
            ports: Vec::new(),
            kinds: Vec::new(),
            count: None,
            first: None,
            last: None,
            handshake: None,
        }
    }
}

impl Verdict {
    /// When it ends; `None`: not before it is unblocked.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.body.duration.map(|secs| self.common.timestamp.plus(Duration::from_secs(secs)))
    }
}

/// What a verdict asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Only keep an eye on it.
    Watch,
    /// Block `scope`.
    Block,
    /// Release the blocks of `scope`.
    Unblock,
}

impl Action {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Watch => "watch",
            Action::Block => "block",
            Action::Unblock => "unblock",
        }
    }
}
