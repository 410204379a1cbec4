//! An outcome: what became of a verdict on one backend. The blocker writes it, once the kernel or the command has
//! confirmed it.

use serde::{Deserialize, Serialize};

use crate::{Action, Common, Prefix, Timestamp};

/// What was done about a range of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// When; source and port as the verdict had them.
    pub common: Common,
    /// The action of the verdict.
    pub body: OutcomeBody,
}

/// The object `outcome` of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeBody {
    /// What the verdict asked for.
    pub action: Action,
    /// The scope of the verdict.
    pub scope: Prefix,
    /// Who did it: "nft", "iptables", ...; absent when it never came to a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Whether that was done, or why not.
    pub result: OutcomeResult,
    /// When the block ends; absent: not before it is unblocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What went wrong, or why it was refused, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which rule decided; where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, as the verdict said; where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when, by the verdict; where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The ports that alone are shut, of the transport that the record names, or else of TCP and UDP; empty: the source is
    /// shut out as a whole. Where blocks are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// `false`: the verdict was not proven by handshakes, so that what is established is left alone. Where blocks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<bool>,
}

impl OutcomeBody {
    /// What came of a verdict, and no more; without a backend it never came to one.
    #[must_use]
    pub fn new(action: Action, scope: Prefix, backend: Option<&str>, result: OutcomeResult) -> Self {
        OutcomeBody {
            action,
            scope,
            backend: backend.map(str::to_owned),
            result,
            until: None,
            error: None,
            rule: None,
            reason: None,
            since: None,
            ports: Vec::new(),
            handshake: None,
        }
    }
}

/// What came of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeResult {
    /// Done, and the kernel or the command has confirmed it.
    Applied,
    /// There was such a block already, for at least as long.
    Already,
    /// It would have cut off an address that must never be blocked, or there is no room or no right for it now.
    Refused,
    /// It did not work, and will be tried again while there is time left.
    Failed,
    /// The block was ended before its time.
    Released,
    /// The block ended at its time.
    Expired,
}

impl OutcomeResult {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            OutcomeResult::Applied => "applied",
            OutcomeResult::Already => "already",
            OutcomeResult::Refused => "refused",
            OutcomeResult::Failed => "failed",
            OutcomeResult::Released => "released",
            OutcomeResult::Expired => "expired",
        }
    }
}
